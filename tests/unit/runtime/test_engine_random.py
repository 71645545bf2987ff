"""Random conversations under random limits: the same tokens as one request at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenloom.backends.device import Device
from tokenloom.models.registry import Model
from tokenloom.runtime.engine import Engine, EngineOptions
from tokenloom.runtime.executable import ModelExecutable
from tokenloom.runtime.request import Completion, ContextHandle, Request
from tokenloom.runtime.sampling import SamplingParams

HEADS = ["", "You are the first of them. " * 2, "You are the second of them. " * 3]


@dataclass(frozen=True)
class Turn:
    """An ask: of the root, or of the context that an earlier turn left."""

    of: int
    text: str
    max_tokens: int
    temperature: float
    priority: int
    cancel: bool


turns = st.builds(
    Turn,
    of=st.integers(-4, 8),
    text=st.tuples(st.sampled_from(HEADS), st.text("abé ", min_size=1)).map("".join),
    max_tokens=st.integers(1, 24),
    temperature=st.sampled_from([0.0, 1.0]),
    priority=st.integers(0, 2),
    cancel=st.sampled_from([False, False, False, True]),
)
rounds = st.lists(st.lists(turns, min_size=1, max_size=5), min_size=1, max_size=3)
limits = st.builds(
    EngineOptions,
    max_batch=st.integers(1, 6),
    chunk_tokens=st.sampled_from([1, 7, 16, 100]),
    num_pages=st.sampled_from([40, 48, 200]),
    policy=st.sampled_from(["fcfs", "lru-prefix"]),
    prefix_reuse=st.sampled_from([True, True, False]),
)


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
            if base is None:
                futures.append(None)
                continue
            params = SamplingParams(turn.max_tokens, turn.temperature, seed=index)
            ids = tuple(turn.text.encode())
            request = Request(base, ids, params, close_ids=(257, 10), priority=turn.priority)
            futures.append(engine.submit(request))
        for turn, future in zip(round, futures, strict=True):
            cancelled = future is None or (turn.cancel and cancel and future.cancel())
            completion = None if cancelled or future is None else future.result(60)
            contexts.append(completion.context if completion else None)
            outputs.append(completion.output_ids if completion else None)
    for context in contexts:
        if context is not None:
            engine.release(context)
    return outputs


@pytest.fixture(scope="module")
def run(
    tiny: Model, host: Device, write_executable: Callable[..., ModelExecutable]
) -> Callable[..., list[tuple[int, ...] | None]]:
    executable = write_executable(tiny.config)

    def run(options: EngineOptions, script: list[list[Turn]], *, cancel: bool):
        engine = Engine(tiny, executable, {"host": host}, options)
        try:
            outputs = play(engine, script, cancel=cancel)
            last = engine.submit(Request(engine.root(), (65,), SamplingParams(1))).result(60)
            engine.release(last.context)
            assert engine.num_pages_used == 0
            engine.check_integrity()
        finally:
            engine.close()
        return outputs

    return run


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=rounds, options=limits)
def test_random_conversations_do_not_depend_on_limits(
    run: Callable[..., list[tuple[int, ...] | None]],
    script: list[list[Turn]],
    options: EngineOptions,
):
    plain = EngineOptions(max_batch=1, num_pages=200, prefix_reuse=False)
    expected = run(plain, script, cancel=False)
    found = run(options, script, cancel=True)
    for wanted, output in zip(expected, found, strict=True):
        assert output is None or output == wanted
