"""Runs on the tiny model: what they mean, and that nothing but their text decides about it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace

import pytest

from tokenloom.models.llama import KvState, LlamaReference
from tokenloom.models.registry import Model
from tokenloom.runtime.engine import Engine, EngineError, StepReport
from tokenloom.runtime.request import Completion, ContextHandle, Request
from tokenloom.runtime.runs import Link, Run
from tokenloom.runtime.sampling import FloatArray, SamplingParams, sample
from tokenloom.runtime.sequence import Sequence

MakeEngine = Callable[..., Engine]
CLOSE = (257, 10)
HEADS = ["Ann speaks first.", "Bo, who is the second of them, has a longer head.", "Cy?"]
SHARED = "Ann: tea is warm. Bo: and coffee is warmer still. Cy: water will do."
TASK = " Now you."


def ids(text: str) -> tuple[int, ...]:
    return tuple(text.encode())


def linked(
    context: ContextHandle, head: str, run: Run, task: str = TASK, **more: object
) -> Request:
    link = Link(len(context) + len(head.encode()), run)
    new_ids = ids(head) + run.ids + ids(task)
    chosen: dict[str, object] = {"sampling": SamplingParams(8), "close_ids": CLOSE, **more}
    return Request(context, new_ids, links=(link,), **chosen)  # pyright: ignore[reportArgumentType]


def requests(root: ContextHandle, run: Run) -> list[Request]:
    return [linked(root, head, run, name=head) for head in HEADS]


def results(futures: Iterable[Future[Completion]]) -> list[Completion]:
    return [future.result(timeout=60) for future in futures]


def outputs(engine: Engine, asked: Iterable[Request]) -> list[tuple[int, ...]]:
    return [done.output_ids for done in results([engine.submit(one) for one in asked])]


class Reference:
    """The meaning of linked texts: no pages, no frames, each run computed behind its head."""

    def __init__(self, model: Model):
        self.model = model
        self.llama = LlamaReference(model.config, model.weights())

    def state(self, text: tuple[int, ...], links: tuple[Link, ...]) -> KvState:
        """Return the KV of a text up to the end of its last run."""
        state = self.llama.start()
        for link in links:
            state, _ = self.llama.extend(state, text[state.num_tokens : link.start])
            run = link.run
            head = self.state(run.head_ids, run.head_links)
            whole, _ = self.llama.extend(head, run.head_ids[head.num_tokens :] + run.ids)
            distance = link.start - len(run.head_ids)
            state = self.llama.link(state, whole.behind(len(run.head_ids)), distance)
        return state

    def answer(self, request: Request) -> tuple[int, ...]:
        text = (*request.context.token_ids.tolist(), *request.new_ids)
        state = self.state(text, request.context.links + request.links)
        output: list[int] = []
        state, logits = self.llama.extend(state, text[state.num_tokens :])
        while len(output) < request.sampling.max_tokens:
            token = sample(logits[-1], request.sampling, len(output))
            if token in self.model.config.eos_ids:
                break
            output.append(token)
            state, logits = self.llama.extend(state, [token])
        return tuple(output)


def run_behind(head: str, text: str = SHARED) -> Run:
    return Run(ids(head), (), ids(text))


@dataclass
class Rounds:
    """Three agents that keep their histories read what all said, in a run of the first one's."""

    engine: Engine

    def play(self, num_rounds: int = 3) -> tuple[list[Request], list[tuple[int, ...]]]:
        contexts = [self.engine.root()] * len(HEADS)
        heads, said, asked = HEADS, SHARED, list[Request]()
        found: list[tuple[int, ...]] = []
        for _ in range(num_rounds):
            master = contexts[0]
            head_ids = (*master.token_ids.tolist(), *ids(heads[0]))
            run = Run(head_ids, master.links, ids(said))
            new = [linked(c, h, run, name=h) for c, h in zip(contexts, heads, strict=True)]
            done = results([self.engine.submit(one) for one in new])
            asked += new
            found += [one.output_ids for one in done]
            contexts = [one.context for one in done]
            heads = [f"\nround {index}: " for index in range(len(HEADS))]
            said = "; ".join(repr(one.text) for one in done)
        return asked, found


def test_a_linked_run_means_what_the_reference_says(tiny: Model, make_engine: MakeEngine):
    reference, engine = Reference(tiny), make_engine()
    asked = requests(engine.root(), run_behind(HEADS[0]))
    assert outputs(engine, asked) == [reference.answer(one) for one in asked]


def test_rounds_with_kept_histories_mean_what_the_reference_says(
    tiny: Model, make_engine: MakeEngine
):
    reference = Reference(tiny)
    asked, found = Rounds(make_engine()).play()
    assert [len(one.context.links) for one in asked] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert found == [reference.answer(one) for one in asked]


def test_the_run_of_a_sibling_is_another_than_ones_own(make_engine: MakeEngine):
    engine = make_engine()
    root = engine.root()
    dense = replace(linked(root, HEADS[1], run_behind(HEADS[0])), links=(), name="dense")
    own = linked(root, HEADS[1], run_behind(HEADS[1]), name="own")
    other = linked(root, HEADS[1], run_behind(HEADS[0]), name="other")
    rows = logits_of(engine, [dense, own, other])
    assert abs(rows["own"] - rows["dense"]).max() < 1e-4
    assert abs(rows["other"] - rows["dense"]).max() > 1e-3


def logits_of(engine: Engine, asked: list[Request]) -> dict[str, FloatArray]:
    """Return the first logits of each request, by name; they are asked one after the other."""
    rows: dict[str, FloatArray] = {}

    class Spy:
        finished = True

        def __init__(self, name: str):
            self.name = name

        def choose(self, logits: FloatArray, params: SamplingParams, step: int) -> int:
            rows[self.name] = logits.copy()
            return 65

    for one in asked:
        engine.submit(replace(one, constraint=Spy(one.name))).result(60)
    return rows


LIMITS: list[dict[str, object]] = [
    {"max_batch": 1, "prefix_reuse": False},
    {"max_batch": 1},
    {"chunk_tokens": 1},
    {"chunk_tokens": 7, "policy": "lru-prefix"},
    {"max_batch": 2, "chunk_tokens": 33, "num_pages": 40},
    {},
]


def test_logits_are_bit_equal_however_they_are_computed(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
):
    rows: dict[str, bytes] = {}
    original = Sequence.take_logits

    def spy(self: Sequence, logits: FloatArray, eos_ids: frozenset[int], now_ns: int) -> None:
        key = f"{len(self.request.context)}/{self.request.name}/{self.num_generated}"
        rows[key] = logits.tobytes()
        original(self, logits, eos_ids, now_ns)

    monkeypatch.setattr(Sequence, "take_logits", spy)
    seen: list[dict[str, bytes]] = []
    for options in LIMITS:
        rows.clear()
        Rounds(make_engine(**options)).play()
        seen.append(dict(rows))
    assert len(seen[0]) > 60
    for options, found in zip(LIMITS, seen, strict=True):
        assert found == seen[0], options


def test_a_run_is_computed_once_for_all_that_wait_for_it(make_engine: MakeEngine):
    reports: list[StepReport] = []
    engine = make_engine(on_step=reports.append)
    run = run_behind(HEADS[0])
    done = results([engine.submit(one) for one in requests(engine.root(), run)])
    computed = sum(report.num_prefill_rows for report in reports)
    private = sum(len(ids(head)) + len(TASK) for head in HEADS)
    assert computed == private + len(run)
    assert [one.reused_linked_tokens for one in done] == [0, len(run), len(run)]
    assert [one.reused_prefix_tokens for one in done] == [len(HEADS[0]), 0, 0]


def test_equal_runs_are_one_whoever_made_them(make_engine: MakeEngine):
    reports: list[StepReport] = []
    engine = make_engine(on_step=reports.append)
    root = engine.root()
    results([engine.submit(linked(root, HEADS[0], run_behind(HEADS[0])))])
    before = sum(report.num_prefill_rows for report in reports)
    later = results([engine.submit(linked(root, HEADS[1], run_behind(HEADS[0])))])
    assert later[0].reused_linked_tokens == len(SHARED)
    after = sum(report.num_prefill_rows for report in reports)
    assert after - before == len(HEADS[1]) + len(TASK)


def test_a_cancelled_master_leaves_its_run_to_the_others(make_engine: MakeEngine):
    run = run_behind(HEADS[0])
    calm = make_engine()
    expected = outputs(calm, requests(calm.root(), run))
    engine = make_engine(chunk_tokens=5)
    gate = threading.Event()

    def hold(_: str) -> None:
        gate.wait(30)

    root = engine.root()
    blocker = engine.submit(Request(root, ids("hold"), SamplingParams(2), on_token=hold))
    futures = [engine.submit(one) for one in requests(root, run)]
    assert futures[0].cancel()
    gate.set()
    results([blocker])
    assert [one.output_ids for one in results(futures[1:])] == expected[1:]


def test_a_straggler_gets_what_it_would_get_alone(make_engine: MakeEngine):
    run = run_behind(HEADS[0])
    alone = make_engine()
    (expected,) = outputs(alone, requests(alone.root(), run)[2:])
    engine = make_engine()
    asked = requests(engine.root(), run)
    outputs(engine, asked[:2])
    assert outputs(engine, asked[2:]) == [expected]


def test_an_exact_context_never_gets_a_linked_page(make_engine: MakeEngine):
    """The same ids without links, asked after those with them, in every way of finding pages."""
    fresh, engine = make_engine(), make_engine()
    root = engine.root()
    # Heads of whole pages, so that every page of a run lies where one of a dense prompt would.
    for head in ("", "h" * 32, "h" * 23):
        for sibling in ("", "s" * 32, "s" * 9):
            run = run_behind(sibling)
            with_link = linked(root, head, run)
            (done,) = results([engine.submit(with_link)])
            dense = replace(with_link, links=(), context=root)
            longer = replace(dense, new_ids=(*done.context.token_ids.tolist(), *ids(" Go on.")))
            for one in (dense, longer):
                (found,) = results([engine.submit(one)])
                assert found.reused_linked_tokens == 0
                (expected,) = results([fresh.submit(replace(one, context=fresh.root()))])
                assert found.output_ids == expected.output_ids
                rows = logits_of(engine, [replace(one, name="after")])
                bare = logits_of(fresh, [replace(one, name="alone", context=fresh.root())])
                assert rows["after"].tobytes() == bare["alone"].tobytes()


def test_a_run_never_serves_a_context_that_links_another(make_engine: MakeEngine):
    """What stands behind a run is found again for the same run only."""
    engine = make_engine()
    root = engine.root()
    one, other = run_behind(HEADS[0]), run_behind(HEADS[1])
    tail = TASK + "x" * 40
    first = results([engine.submit(linked(root, HEADS[2], one, tail))])[0]
    again = results([engine.submit(linked(root, HEADS[2], one, tail))])[0]
    assert again.reused_prefix_tokens == len(HEADS[2]) + len(tail) // 16 * 16
    assert again.output_ids == first.output_ids
    changed = results([engine.submit(linked(root, HEADS[2], other, tail))])[0]
    assert changed.reused_prefix_tokens == len(HEADS[2])


def test_tenants_share_no_run(make_engine: MakeEngine):
    engine = make_engine()
    run = run_behind(HEADS[0])
    for tenant in ("a", "b"):  # the first who has the run's own head pays for it, in each
        done = results([engine.submit(linked(engine.root(tenant), HEADS[0], run))])
        assert done[0].reused_linked_tokens == 0
    again = results([engine.submit(linked(engine.root("a"), HEADS[0], run, "!"))])
    assert again[0].reused_linked_tokens == len(run)


def test_a_link_must_have_the_tokens_of_its_place(make_engine: MakeEngine):
    engine = make_engine()
    good = linked(engine.root(), HEADS[1], run_behind(HEADS[0]))
    for wrong in (
        replace(good, links=(good.links[0].moved(1),)),
        replace(good, links=(good.links[0].moved(-1),)),
        replace(good, new_ids=good.new_ids[: good.links[0].end]),
        replace(good, links=(*good.links, *good.links)),
    ):
        with pytest.raises(EngineError, match="linked run"):
            engine.submit(wrong)


def test_a_context_of_too_many_short_runs_is_refused(make_engine: MakeEngine):
    engine = make_engine(num_pages=2000)
    root = engine.root()
    run = Run((), (), ids("a"))
    links = tuple(Link(at, run) for at in range(0, 600, 2))
    many = Request(root, ids("a." * 300), SamplingParams(2), links=links)
    with pytest.raises(EngineError, match="link fewer and longer runs"):
        engine.submit(many)
    few = replace(many, links=links[:100])
    assert len(results([engine.submit(few)])[0].output_ids) == 2


def test_released_runs_leave_no_page_behind(make_engine: MakeEngine):
    engine = make_engine()
    done = results([engine.submit(one) for one in requests(engine.root(), run_behind(HEADS[0]))])
    assert engine.num_pages_used > 0
    for one in done:
        engine.release(one.context)
    assert engine.num_pages_used == 0
