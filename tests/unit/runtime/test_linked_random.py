"""Random contexts that link random runs, cancelled at random, under random limits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenloom.backends.device import Device
from tokenloom.models.registry import Model
from tokenloom.runtime.engine import Engine, EngineOptions
from tokenloom.runtime.executable import ModelExecutable
from tokenloom.runtime.request import Completion, ContextHandle, Request
from tokenloom.runtime.runs import Link, Run
from tokenloom.runtime.sampling import SamplingParams

SHARED = ["", "a", "They all said: tea. ", "x" * 16, "It was a long story, of many turns. " * 2]


@dataclass(frozen=True)
class Turn:
    """An ask of an earlier turn's context, or the root: `head`, a run of `sibling`, and an end.

    The run is what `shared` is behind the sibling's context and `head`.
    """

    of: int
    sibling: int
    head: str
    shared: int
    num_tokens: int
    cancel: bool


turns = st.builds(
    Turn,
    of=st.integers(-3, 6),
    sibling=st.integers(-3, 6),
    head=st.sampled_from(["", "Ann: ", "h" * 16, "Bo says so: "]),
    shared=st.integers(0, len(SHARED) - 1),
    num_tokens=st.integers(1, 18),
    cancel=st.sampled_from([False, False, True]),
)
rounds = st.lists(st.lists(turns, min_size=1, max_size=4), min_size=1, max_size=3)
limits = st.builds(
    EngineOptions,
    max_batch=st.integers(1, 5),
    chunk_tokens=st.sampled_from([1, 7, 16, 100]),
    num_pages=st.sampled_from([48, 60, 200]),
    policy=st.sampled_from(["fcfs", "lru-prefix"]),
    prefix_reuse=st.sampled_from([True, True, False]),
)


def request(context: ContextHandle, sibling: ContextHandle, turn: Turn, seed: int) -> Request:
    head, shared = tuple(turn.head.encode()), tuple(SHARED[turn.shared].encode())
    run = Run((*sibling.token_ids.tolist(), *head), sibling.links, shared)
    links = (Link(len(context) + len(head), run),) if shared else ()
    ids = (*head, *shared, *b" Go.")
    params = SamplingParams(turn.num_tokens, 0.9, seed=seed)
    return Request(context, ids, params, close_ids=(257, 10), links=links)


def play(engine: Engine, script: list[list[Turn]], *, cancel: bool) -> list[tuple[int, ...] | None]:
    """Submit each round at once; None stands for what was cancelled or asked a cancelled one."""
    root = engine.root()
    contexts: list[ContextHandle | None] = []
    outputs: list[tuple[int, ...] | None] = []
    for round in script:
        known = list(contexts)
        futures: list[Future[Completion] | None] = []
        for index, turn in enumerate(round):
            base = known[turn.of % len(known)] if known and turn.of >= 0 else root
            sibling = known[turn.sibling % len(known)] if known and turn.sibling >= 0 else root
            if base is None or sibling is None:
                futures.append(None)
                continue
            futures.append(engine.submit(request(base, sibling, turn, index)))
        for turn, future in zip(round, futures, strict=True):
            cancelled = future is None or (turn.cancel and cancel and future.cancel())
            completion = None if cancelled or future is None else future.result(60)
            contexts.append(completion.context if completion else None)
            outputs.append(completion.output_ids if completion else None)
    for context in contexts:
        if context is not None:
            engine.release(context)
    return outputs


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(script=rounds, options=limits)
def test_linked_conversations_do_not_depend_on_limits(
    tiny: Model,
    host: Device,
    write_executable: Callable[..., ModelExecutable],
    script: list[list[Turn]],
    options: EngineOptions,
) -> None:
    executable = write_executable(tiny.config)

    def run(options: EngineOptions, *, cancel: bool) -> list[tuple[int, ...] | None]:
        engine = Engine(tiny, executable, {"host": host}, options)
        try:
            outputs = play(engine, script, cancel=cancel)
            # A run that nobody waits for any more may still be under way: no page of it stays.
            for _ in range(200):
                last = engine.submit(Request(engine.root(), (65,), SamplingParams(1))).result(60)
                engine.release(last.context)
                if engine.num_pages_used == 0:
                    break
            assert engine.num_pages_used == 0
            engine.check_integrity()
        finally:
            engine.close()
        return outputs

    expected = run(EngineOptions(max_batch=1, num_pages=200, prefix_reuse=False), cancel=False)
    found = run(options, cancel=True)
    for wanted, output in zip(expected, found, strict=True):
        assert output is None or output == wanted
