"""Chooses the rows of each step: who decodes, who prefills how much, who gives way.

The policy orders; this module holds to memory and row limits, so that every policy delivers the
same tokens. It knows nothing of devices or of how tokens are chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenloom.runtime.batch import Chunk, Rows, StepBatch, build_batch
from tokenloom.runtime.contexts import Contexts
from tokenloom.runtime.kv_source import KvSource
from tokenloom.runtime.pages import PageError, PagePool, extend, pages_to_extend
from tokenloom.runtime.policies.contract import Policy, Snapshot
from tokenloom.runtime.run_fills import RunFills
from tokenloom.runtime.sequence import Sequence


class PolicyStalled(Exception):
    """The policy grants nothing although nothing else is left to do: a bug of the policy."""


@dataclass(frozen=True)
class Limits:
    """What one step may hold.

    `max_batch` requests run at once, `chunk_tokens` prefill rows and `max_rows` rows in all.
    """

    max_batch: int
    chunk_tokens: int
    max_rows: int


@dataclass(frozen=True)
class StepPlan:
    """One step: its arrays, and whose logits come out of it, in order.

    `start_ns` is when planning began.
    """

    start_ns: int
    batch: StepBatch
    logits_for: list[Sequence]
    num_prefill_rows: int


class Scheduler:
    """The queue and the running requests. Callers hold the engine's lock.

    A request waits until the runs that it links have KV; `fills` has them computed.
    """

    def __init__(
        self,
        pool: PagePool,
        contexts: Contexts,
        source: KvSource,
        fills: RunFills,
        policy: Policy,
        limits: Limits,
    ):
        self._pool = pool
        self._contexts = contexts
        self._source = source
        self._fills = fills
        self._policy = policy
        self._limits = limits
        self.waiting: dict[int, Sequence] = {}
        self.running: dict[int, Sequence] = {}
        self.num_preempted = 0
        self._chunks: dict[int, Chunk] = {}
        self._decoding: set[int] = set()
        self._copies: dict[int, tuple[int, int]] = {}

    @property
    def sequences(self) -> list[Sequence]:
        """All requests that are unfinished."""
        everything = [*self.running.values(), *self.waiting.values()]
        return [sequence for sequence in everything if sequence.fills is None]

    def add(self, sequence: Sequence) -> None:
        """Queue a request."""
        self._source.adopt(sequence)
        sequence.view.cached_tokens = lambda: self._source.num_found(sequence)
        self.waiting[sequence.id] = sequence

    def remove(self, sequence: Sequence) -> None:
        """Forget a request, between steps; what pages it still has are given back."""
        self.waiting.pop(sequence.id, None)
        self.running.pop(sequence.id, None)
        self._source.release(sequence)

    def remove_fills(self) -> None:
        """Give up all runs that are being computed."""
        for sequence in [*self.running.values(), *self.waiting.values()]:
            if sequence.fills is not None:
                self._fills.end(sequence)
                self.remove(sequence)

    def plan(self, now_ns: int, *, stage: bool) -> StepPlan | None:
        """Return the next step, or None when there is nothing to do. Raises PolicyStalled."""
        if not self.waiting and not self.running:
            return None
        blocked = self._start_fills()
        self._plan_decode()
        self._plan_prefill(now_ns, blocked)
        if not self._chunks:
            self._plan_most_protected()
        decode = [id for id in self._chunks if id in self._decoding]
        prefill = [id for id in self._chunks if id not in self._decoding]
        self._register([self.running[id] for id in decode])
        chunks = self._chunks
        batch = build_batch(
            [chunks[id] for id in decode],
            [chunks[id] for id in prefill],
            list(self._copies.values()),
            stage=stage,
        )
        for id in prefill:
            self.running[id].started_ns = self.running[id].started_ns or now_ns
        logits_for = [self.running[id] for id in (*decode, *prefill) if chunks[id].wants_logits]
        return StepPlan(now_ns, batch, logits_for, batch.num_rows - len(decode))

    def step_done(self) -> None:
        """Say that the planned step has run, or never will."""
        for source, _ in self._copies.values():
            self._pool.end_copy(source)
        self._copies.clear()
        for id in self._chunks:
            sequence = self.running.get(id)
            if sequence is not None and sequence.fills and sequence.num_to_compute == 0:
                self._fills.end(sequence)
                self.remove(sequence)
        self._chunks.clear()
        self._decoding.clear()

    def _start_fills(self) -> set[int]:
        """Queue the computation of runs that are missing; return who must wait for one."""
        blocked: set[int] = set()
        pending = list(self.waiting.values())
        for sequence in pending:
            missing = self._source.missing_runs(sequence)
            if missing:
                blocked.add(sequence.id)
            for fill in self._fills.start(sequence, missing):
                self.add(fill)
                pending.append(fill)
        return blocked

    def _plan_decode(self) -> None:
        decoding = [s for s in self.running.values() if s.is_decoding]
        needed = sum(pages_to_extend(self._pool, s.path.table, 1) for s in decoding if s.path)
        if needed > self._pool.num_free:
            self._free_by_contexts(needed)
        if needed > self._pool.num_free:
            # The most protected first: they take pages from the others, never the reverse.
            protected = self._policy.victims([s.refresh_view() for s in self.running.values()])
            decoding.sort(key=lambda s: -protected.index(s.id))
        for sequence in decoding:
            if sequence.id not in self.running:
                continue
            self._decoding.add(sequence.id)
            if not self._plan_chunk(sequence, 1):
                self._preempt(sequence)

    def _plan_prefill(self, now_ns: int, blocked: set[int]) -> None:
        rows = min(self._limits.chunk_tokens, self._limits.max_rows - len(self._chunks))
        pending = any(id not in self._chunks for id in self.running)
        slots = self._limits.max_batch - len(self.running)
        if rows <= 0 or not (pending or (self.waiting and slots > 0)):
            return
        for grant in self._policy.admit(self._snapshot(now_ns, rows, max(0, slots), blocked)):
            sequence = self.running.get(grant.request_id)
            count = min(rows, grant.num_tokens)
            if count <= 0 or grant.request_id in self._chunks:
                continue
            if sequence is None:
                sequence = self.waiting.get(grant.request_id)
                if sequence is None or not self._admit(sequence):
                    return
            if self._plan_chunk(sequence, min(count, sequence.num_to_compute)):
                rows -= self._chunks[sequence.id].num_rows
                self._register([sequence])

    def _plan_most_protected(self) -> None:
        """Go on with the request that may take pages from all others, when no other could.

        So every request comes to its end, whatever the policy grants.
        """
        order = self._policy.victims([s.refresh_view() for s in self.running.values()])
        if not order:
            raise PolicyStalled(f"policy {self._policy.name} lets none of the requests run")
        sequence = self.running[order[-1]]
        count = min(self._limits.chunk_tokens, sequence.num_to_compute)
        if not self._plan_chunk(sequence, count):
            raise PageError(f"request {sequence.id} is alone and finds no room")
        self._register([sequence])

    def _snapshot(self, now_ns: int, rows: int, slots: int, blocked: set[int]) -> Snapshot:
        running = self.running.values()
        return Snapshot(
            now_ns,
            [s.refresh_view() for s in self.waiting.values() if s.id not in blocked],
            [s.refresh_view() for s in running if s.id not in self._chunks],
            [s.refresh_view() for s in running if s.id in self._chunks],
            self._pool.num_free,
            self._pool.num_pages,
            self._pool.page_tokens,
            rows,
            slots,
        )

    def _admit(self, sequence: Sequence) -> bool:
        """Let a waiting request run if all it has to compute fits beside those that run."""
        if len(self.running) >= self._limits.max_batch or self._source.missing_runs(sequence):
            return False
        self._source.begin(sequence)
        needed = self._source.pages_needed(sequence, sequence.num_to_compute)
        self._free_by_contexts(needed)
        if needed > self._pool.num_free:
            self._source.release(sequence)
            return False
        self._source.count_reused(sequence)
        del self.waiting[sequence.id]
        self.running[sequence.id] = sequence
        return True

    def _plan_chunk(self, sequence: Sequence, count: int) -> bool:
        """Make room for the next `count` tokens and plan their rows; False if there is no room."""
        path = sequence.path
        assert path is not None
        needed = self._source.pages_needed(sequence, count)
        if needed > self._pool.num_free and not self._make_room(sequence, needed):
            return False
        table, rows = path.table, list[Rows]()
        while count:
            here = count
            if not sequence.is_in_last_run(path):
                here = min(count, sequence.lengths_ahead(path)[0])
            start, frame_start = table.num_tokens, table.frame_start
            extension = extend(self._pool, table, here)
            if extension.copy is not None:
                self._copies[sequence.id] = extension.copy
            tokens = sequence.ids[start : start + here]
            rows.append(Rows(tokens, extension.slots, start, frame_start))
            self._source.cross(sequence)
            count -= here
        wants_logits = sequence.fills is None and table.num_tokens == sequence.num_ids
        self._chunks[sequence.id] = Chunk(tuple(rows), table, wants_logits)
        return True

    def _make_room(self, sequence: Sequence, needed: int) -> bool:
        """Free pages at the cost of idle contexts, then of requests less protected than this.

        Pages of planned prefill rows may be in the index already, so those requests stay.
        """
        self._free_by_contexts(needed)
        if needed <= self._pool.num_free:
            return True
        for id in self._policy.victims([s.refresh_view() for s in self.running.values()]):
            if id == sequence.id:
                return False
            if id not in self._chunks or id in self._decoding:
                self._preempt(self.running[id])
            if needed <= self._pool.num_free:
                return True
        return False

    def _free_by_contexts(self, needed: int) -> None:
        while needed > self._pool.num_free and self._contexts.drop_oldest():
            pass

    def _preempt(self, sequence: Sequence) -> None:
        """Send a running request back to the queue; its tokens stay, its KV is computed again."""
        self._chunks.pop(sequence.id, None)
        self._decoding.discard(sequence.id)
        copy = self._copies.pop(sequence.id, None)
        if copy is not None:
            self._pool.end_copy(copy[0])
        self._source.release(sequence)
        del self.running[sequence.id]
        self.waiting[sequence.id] = sequence
        self.num_preempted += 1

    def _register(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            self._source.register(sequence)
