from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Sequence as Sequences
from concurrent.futures import CancelledError, Future

import pytest

from tokenloom.backends.device import Argument, Device, DeviceError, Event, Kernel
from tokenloom.models.answers import parse_answer
from tokenloom.models.llama import LlamaReference
from tokenloom.models.registry import Model
from tokenloom.runtime.constrain import Grammars
from tokenloom.runtime.contexts import ContextReleased
from tokenloom.runtime.engine import Engine, EngineClosed, EngineError, StepReport
from tokenloom.runtime.errors import ContextOverflow
from tokenloom.runtime.request import Completion, ContextHandle, Request
from tokenloom.runtime.sampling import FloatArray, SamplingParams, sample
from tokenloom.runtime.sequence import Sequence

MakeEngine = Callable[..., Engine]
CLOSE = (257, 10)


def request(context: ContextHandle, text: str, max_tokens: int = 12, **more: object) -> Request:
    params = SamplingParams(max_tokens)
    return Request(context, tuple(text.encode()), params, close_ids=CLOSE, **more)  # pyright: ignore[reportArgumentType]


def reference_ids(model: Model, prompt: tuple[int, ...], params: SamplingParams) -> tuple[int, ...]:
    reference = LlamaReference(model.config, model.weights())
    state, logits = reference.extend(reference.start(), prompt)
    output: list[int] = []
    while len(output) < params.max_tokens:
        token = sample(logits[-1], params, len(output))
        if token in model.config.eos_ids:
            break
        output.append(token)
        state, logits = reference.extend(state, [token])
    return tuple(output)


def results(futures: list[Future[Completion]]) -> list[Completion]:
    return [future.result(timeout=60) for future in futures]


PROMPTS = [
    "A short one",
    "The same beginning of a prompt that is longer than a page, then one end",
    "The same beginning of a prompt that is longer than a page, then another end",
    "x" * 200,
    "é😀 " * 30,
]


def test_greedy_tokens_are_those_of_the_reference(tiny: Model, make_engine: MakeEngine):
    engine = make_engine(chunk_tokens=37)
    root = engine.root()
    done = results([engine.submit(request(root, text, 24)) for text in PROMPTS])
    for text, completion in zip(PROMPTS, done, strict=True):
        prompt = tuple(text.encode())
        assert completion.prompt_ids == prompt
        assert completion.output_ids == reference_ids(tiny, prompt, SamplingParams(24))
        assert completion.text == tiny.tokenizer.decode(completion.output_ids)
        history = completion.context.token_ids.tolist()
        assert history == [*prompt, *completion.output_ids, *CLOSE]


def converse(engine: Engine, temperature: float) -> list[tuple[int, ...]]:
    """Let five agents take three turns each, side by side, and fork the first of them."""
    root = engine.root()
    contexts = [root] * len(PROMPTS)
    outputs: list[tuple[int, ...]] = []
    for turn in range(3):
        futures = [
            engine.submit(
                Request(
                    context,
                    tuple(f"{PROMPTS[index % 5]} {turn}".encode()),
                    SamplingParams(9 + index, temperature=temperature, seed=100 * turn + index),
                    close_ids=CLOSE,
                )
            )
            for index, context in enumerate([*contexts, contexts[0]])
        ]
        done = results(futures)
        outputs += [completion.output_ids for completion in done]
        contexts = [completion.context for completion in done[:-1]]
    return outputs


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_results_are_the_same_however_they_are_batched(make_engine: MakeEngine, temperature: float):
    expected = converse(make_engine(max_batch=1, prefix_reuse=False), temperature)
    assert len({len(output) for output in expected}) > 3
    for options in (
        {"max_batch": 16, "chunk_tokens": 512 - 16},
        {"max_batch": 16, "chunk_tokens": 1},
        {"max_batch": 3, "chunk_tokens": 17, "policy": "lru-prefix"},
        {"max_batch": 1, "chunk_tokens": 64},
        {"max_batch": 16, "num_pages": 46, "chunk_tokens": 50},
    ):
        engine = make_engine(**options)
        assert converse(engine, temperature) == expected, options


def test_logits_are_bit_equal_however_they_are_computed(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
):
    rows: dict[str, bytes] = {}
    original = Sequence.take_logits

    def spy(self: Sequence, logits: FloatArray, eos_ids: frozenset[int], now_ns: int) -> None:
        rows[f"{self.request.name}/{self.num_generated}"] = logits.tobytes()
        original(self, logits, eos_ids, now_ns)

    monkeypatch.setattr(Sequence, "take_logits", spy)
    seen: list[dict[str, bytes]] = []
    for options in ({"max_batch": 1, "prefix_reuse": False}, {"chunk_tokens": 5}, {}):
        rows.clear()
        engine = make_engine(**options)
        root = engine.root()
        results([engine.submit(request(root, text, 8, name=text)) for text in PROMPTS])
        seen.append(dict(rows))
    assert len(seen[0]) > 30
    assert seen[0] == seen[1] == seen[2]


def test_own_pages_and_shared_prefixes_are_not_computed_again(make_engine: MakeEngine):
    engine = make_engine()
    first = engine.submit(request(engine.root(), PROMPTS[1], 12)).result(60)
    assert first.reused_prefix_tokens == 0
    follow = engine.submit(request(first.context, " and more", 4)).result(60)
    # The last generated token and the end marker have no KV yet.
    assert follow.reused_prefix_tokens == len(first.prompt_ids) + len(first.output_ids) - 1
    sibling = engine.submit(request(engine.root(), PROMPTS[2], 4)).result(60)
    assert sibling.reused_prefix_tokens == 64
    stranger = engine.submit(request(engine.root("b"), PROMPTS[2], 4)).result(60)
    assert stranger.reused_prefix_tokens == 0
    assert sibling.output_ids == stranger.output_ids


def test_requests_of_one_step_compute_a_common_prefix_once(make_engine: MakeEngine):
    reports: list[StepReport] = []
    engine = make_engine(on_step=reports.append)
    gate = threading.Event()
    root = engine.root()

    def hold(_: str) -> None:
        gate.wait(30)

    blocker = engine.submit(request(root, "hold", 2, on_token=hold))
    futures = [engine.submit(request(root, "s" * 160 + name, 2)) for name in ("one", "two", "six")]
    gate.set()
    done = results([blocker, *futures])[1:]
    assert [c.reused_prefix_tokens for c in done] == [0, 160, 160]
    assert sum(report.num_prefill_rows for report in reports) == 4 + 163 + 3 + 3


def test_a_context_can_be_extended_twice_and_stays_as_it_was(make_engine: MakeEngine):
    engine = make_engine()
    base = engine.submit(request(engine.root(), "common ground", 5)).result(60).context
    before = base.token_ids.tolist()
    forks = results([engine.submit(request(base, text, 20)) for text in ("left", "right", "left")])
    assert forks[0].output_ids == forks[2].output_ids
    again = engine.submit(request(base, "left", 20)).result(60)
    assert again.output_ids == forks[0].output_ids
    assert base.token_ids.tolist() == before
    with pytest.raises(ValueError, match="read-only"):
        base.token_ids[0] = 1


def test_a_small_pool_preempts_and_delivers_the_same(make_engine: MakeEngine):
    reports: list[StepReport] = []
    large = make_engine()
    small = make_engine(num_pages=20, on_step=reports.append)
    outputs: list[list[tuple[int, ...]]] = []
    for engine in (large, small):
        root = engine.root()
        texts = [f"{index}" * 90 for index in range(6)]
        futures = [engine.submit(request(root, text, 100)) for text in texts]
        outputs.append([completion.output_ids for completion in results(futures)])
    assert outputs[0] == outputs[1]
    assert reports[-1].num_preempted > 0
    assert all(r.pages_used + r.pages_free == 20 for r in reports)


def test_idle_contexts_give_their_pages_up_and_are_computed_again(make_engine: MakeEngine):
    engine = make_engine(num_pages=14)
    first = engine.submit(request(engine.root(), "a" * 100, 8)).result(60)
    engine.submit(request(engine.root(), "b" * 150, 8)).result(60)
    follow = engine.submit(request(first.context, "c", 8)).result(60)
    assert follow.reused_prefix_tokens < len(first.prompt_ids)
    calm = make_engine()
    first = calm.submit(request(calm.root(), "a" * 100, 8)).result(60)
    assert calm.submit(request(first.context, "c", 8)).result(60).output_ids == follow.output_ids


def test_released_contexts_leave_no_page_behind(make_engine: MakeEngine):
    engine = make_engine()
    root = engine.root()
    done = results([engine.submit(request(root, text, 6)) for text in PROMPTS])
    assert engine.num_pages_used > 0
    engine.retain(done[0].context)
    for completion in done:
        engine.release(completion.context)
    engine.submit(request(done[0].context, "still held", 2)).result(60)
    engine.release(done[0].context)
    with pytest.raises(ContextReleased, match="was released"):
        engine.submit(request(done[0].context, "gone"))
    with pytest.raises(ContextReleased, match="was released"):
        engine.release(done[0].context)


def test_generation_ends_before_a_stop_text(make_engine: MakeEngine):
    engine = make_engine()
    free = engine.submit(request(engine.root(), PROMPTS[0], 40)).result(60)
    stop = free.text[10:12]
    cut = free.text.index(stop)
    pieces: list[str] = []
    params = SamplingParams(40, stop=("never in it", stop))
    prompt = tuple(PROMPTS[0].encode())
    stopped = engine.submit(
        Request(engine.root(), prompt, params, close_ids=CLOSE, on_token=pieces.append)
    ).result(60)
    assert stopped.text == free.text[:cut] == "".join(pieces)
    assert stopped.finish_reason == "stop"
    assert stopped.output_ids == free.output_ids[: len(stopped.output_ids)]
    assert stopped.context.token_ids.tolist() == [*prompt, *stopped.output_ids, *CLOSE]


def test_an_end_marker_ends_the_turn_once(tiny: Model, make_engine: MakeEngine):
    engine = make_engine()
    grammars = Grammars(tiny.tokenizer, tiny.config.vocab_size, tiny.config.eos_ids)
    for answer, reason in (({"kind": "bool"}, "answer"), ({"kind": "text", "regex": "a*"}, None)):
        constraint = grammars.constrain(answer, 30)
        done = engine.submit(request(engine.root(), "is it?", 30, constraint=constraint)).result(60)
        assert reason is None or done.finish_reason == reason
        assert 257 not in done.output_ids
        assert done.context.token_ids.tolist()[-2:] == list(CLOSE)
        assert done.context.token_ids.tolist().count(257) == 1


def test_what_cannot_be_served_is_refused_at_once(make_engine: MakeEngine):
    engine = make_engine(num_pages=20)
    root = engine.root()
    with pytest.raises(ContextOverflow, match="has 2000 tokens and the answer may have 49"):
        engine.submit(request(root, "x" * 2000, 49))
    with pytest.raises(EngineError, match="needs 21 KV pages and the pool has 20"):
        engine.submit(request(root, "x" * 300, 20))
    with pytest.raises(EngineError, match="prompt is empty"):
        engine.submit(request(root, "", 20))
    with pytest.raises(EngineError, match=r"outside of 0\.\.257"):
        engine.submit(Request(root, (258,), SamplingParams(1)))
    with pytest.raises(EngineError, match="no policy 'best'"):
        make_engine(policy="best")
    with pytest.raises(EngineError, match="exceeds the 512 rows"):
        make_engine(max_batch=513)


def test_a_cancelled_request_ends_and_frees_its_pages(make_engine: MakeEngine):
    engine = make_engine()
    root = engine.root()
    started, cancelled = threading.Event(), threading.Event()

    def wait(_: str) -> None:
        started.set()
        cancelled.wait(30)

    future = engine.submit(request(root, "long", 500, on_token=wait))
    assert started.wait(30)
    assert future.cancel()
    cancelled.set()
    with pytest.raises(CancelledError):
        future.result(60)
    other = engine.submit(request(root, "other", 4)).result(60)
    engine.release(other.context)
    assert engine.num_pages_used == 0


def test_a_failing_callback_fails_its_own_request_only(make_engine: MakeEngine):
    engine = make_engine()
    root = engine.root()

    def fail(_: str) -> None:
        raise ValueError("the client is gone")

    bad = engine.submit(request(root, "bad", 50, on_token=fail))
    good = engine.submit(request(root, "good", 8))
    with pytest.raises(ValueError, match="the client is gone"):
        bad.result(60)
    assert len(good.result(60).output_ids) == 8


def test_a_failing_step_fails_what_is_in_flight_and_the_engine_goes_on(
    make_engine: MakeEngine, host: Device, monkeypatch: pytest.MonkeyPatch
):
    engine = make_engine()
    root = engine.root()
    before = engine.submit(request(root, PROMPTS[1], 8)).result(60)
    original, num_left = host.launch, 30

    def launch(kernel: Kernel, arguments: Sequences[Argument]) -> Event:
        nonlocal num_left
        num_left -= 1
        if num_left == 0:
            raise DeviceError("host: out of order")
        return original(kernel, arguments)

    monkeypatch.setattr(host, "launch", launch)
    futures = [engine.submit(request(root, text, 8)) for text in PROMPTS]
    failures = [future.exception(60) for future in futures]
    assert any(isinstance(f, EngineError) and "out of order" in str(f) for f in failures)
    assert any(isinstance(f and f.__cause__, DeviceError) for f in failures)
    after = engine.submit(request(root, PROMPTS[1], 8)).result(60)
    assert after.reused_prefix_tokens == 0
    assert after.output_ids == before.output_ids


def test_closing_ends_what_is_in_flight(make_engine: MakeEngine):
    engine = make_engine()
    future = engine.submit(request(engine.root(), "long", 1500))
    engine.close()
    with pytest.raises(EngineClosed):
        future.result(60)
    with pytest.raises(EngineClosed):
        engine.submit(request(engine.root(), "late"))


def test_answers_of_constrained_requests_do_not_depend_on_the_batch(
    tiny: Model, make_engine: MakeEngine
):
    grammars = Grammars(tiny.tokenizer, tiny.config.vocab_size, tiny.config.eos_ids)
    answer = {"kind": "list", "item": {"kind": "enum", "values": ["a", "b\n", "é"]}}
    texts: list[list[str]] = []
    for max_batch in (1, 16):
        engine = make_engine(max_batch=max_batch)
        root = engine.root()
        futures: list[Future[Completion]] = []
        for seed in range(6):
            params = SamplingParams(25, temperature=1.5, seed=seed)
            constraint = grammars.constrain(answer, 25)
            futures.append(engine.submit(Request(root, (65, 66), params, constraint)))
        texts.append([completion.text for completion in results(futures)])
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1
    for text in texts[0]:
        parse_answer(answer, text)
