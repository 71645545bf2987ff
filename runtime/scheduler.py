"""Chooses the rows of each step: who decodes, who prefills how much, who gives way.

The policy orders; this module holds to memory and row limits, so that every policy delivers the
same tokens. It knows nothing of devices or of how tokens are chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenloom.runtime.batch import Chunk, StepBatch, build_batch
from tokenloom.runtime.contexts import Contexts
from tokenloom.runtime.pages import PageError, PagePool, PageTable, extend, pages_to_extend
from tokenloom.runtime.policies.contract import Policy, Snapshot
from tokenloom.runtime.reuse import Node, PrefixIndex
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

    With `index` None nothing is reused.
    """

    def __init__(
        self,
        pool: PagePool,
        contexts: Contexts,
        index: PrefixIndex | None,
        policy: Policy,
        limits: Limits,
    ):
        self._pool = pool
        self._contexts = contexts
        self._index = index
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
        """All that is unfinished."""
        return [*self.running.values(), *self.waiting.values()]

    def add(self, sequence: Sequence) -> None:
        """Queue a request."""
        sequence.view.cached_tokens = lambda: self._find_prefix(sequence)[0]
        self.waiting[sequence.id] = sequence

    def remove(self, sequence: Sequence) -> None:
        """Forget a request, between steps; what pages it still has are given back."""
        self.waiting.pop(sequence.id, None)
        self.running.pop(sequence.id, None)
        self._release(sequence)

    def plan(self, now_ns: int, *, stage: bool) -> StepPlan | None:
        """Return the next step, or None when there is nothing to do. Raises PolicyStalled."""
        if not self.waiting and not self.running:
            return None
        self._plan_decode()
        self._plan_prefill(now_ns)
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
        self._chunks.clear()
        self._decoding.clear()

    def _plan_decode(self) -> None:
        decoding = [s for s in self.running.values() if s.is_decoding]
        needed = sum(pages_to_extend(self._pool, s.table, 1) for s in decoding if s.table)
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

    def _plan_prefill(self, now_ns: int) -> None:
        rows = min(self._limits.chunk_tokens, self._limits.max_rows - len(self._chunks))
        pending = any(id not in self._chunks for id in self.running)
        slots = self._limits.max_batch - len(self.running)
        if rows <= 0 or not (pending or (self.waiting and slots > 0)):
            return
        for grant in self._policy.admit(self._snapshot(now_ns, rows, max(0, slots))):
            sequence = self.running.get(grant.request_id)
            count = min(rows, grant.num_tokens)
            if count <= 0 or grant.request_id in self._chunks:
                continue
            if sequence is None:
                sequence = self.waiting.get(grant.request_id)
                if sequence is None or not self._admit(sequence):
                    return
            if self._plan_chunk(sequence, min(count, sequence.num_to_compute)):
                rows -= len(self._chunks[sequence.id].tokens)
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

    def _snapshot(self, now_ns: int, rows: int, slots: int) -> Snapshot:
        running = self.running.values()
        return Snapshot(
            now_ns,
            [s.refresh_view() for s in self.waiting.values()],
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
        if len(self.running) >= self._limits.max_batch:
            return False
        table = self._start_table(sequence)
        sequence.table = table
        needed = pages_to_extend(self._pool, table, sequence.num_to_compute)
        self._free_by_contexts(needed)
        if needed > self._pool.num_free:
            self._release(sequence)
            return False
        if sequence.num_reused is None:
            sequence.num_reused = table.num_tokens
        del self.waiting[sequence.id]
        self.running[sequence.id] = sequence
        return True

    def _start_table(self, sequence: Sequence) -> PageTable:
        """Return a table with as much of the sequence as there is KV of: its own, or found."""
        context = sequence.request.context
        num_found, pages, node = self._find_prefix(sequence)
        if context.table is not None and num_found == context.table.num_tokens:
            self._pool.retain(context.table.pages)
            sequence.node, sequence.num_registered = context.node, context.num_registered
            return context.table.copy()
        self._pool.retain(pages)
        sequence.node, sequence.num_registered = node, len(pages)
        table = PageTable(self._pool.page_tokens)
        table.take_pages(pages)
        return table

    def _find_prefix(self, sequence: Sequence) -> tuple[int, list[int], Node]:
        """Return how many tokens have KV already, and what the index knows of them."""
        context = sequence.request.context
        if self._index is None:
            return 0, [], context.root
        # The last token is computed in any case: its logits are wanted.
        pages, node = self._index.match(context.root, sequence.ids, sequence.num_ids - 1)
        own = context.table.num_tokens if context.table else 0
        return max(own, len(pages) * self._pool.page_tokens), pages, node

    def _plan_chunk(self, sequence: Sequence, count: int) -> bool:
        """Make room for the next `count` tokens and plan their rows; False if there is no room."""
        table = sequence.table
        assert table is not None
        needed = pages_to_extend(self._pool, table, count)
        if needed > self._pool.num_free and not self._make_room(sequence, needed):
            return False
        start = table.num_tokens
        extension = extend(self._pool, table, count)
        if extension.copy is not None:
            self._copies[sequence.id] = extension.copy
        tokens = sequence.ids[start : start + count]
        wants_logits = start + count == sequence.num_ids
        self._chunks[sequence.id] = Chunk(tokens, extension.slots, table, wants_logits)
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
        self._release(sequence)
        del self.running[sequence.id]
        self.waiting[sequence.id] = sequence
        self.num_preempted += 1

    def _release(self, sequence: Sequence) -> None:
        if sequence.table is not None:
            self._pool.release(sequence.table.pages)
            sequence.table = None

    def _register(self, sequences: list[Sequence]) -> None:
        """Make full pages findable, also those that this step is yet to write.

        Within a step each layer appends all rows before any row attends, so a request of the same
        step may already read them.
        """
        if self._index is None:
            return
        for sequence in sequences:
            table = sequence.table
            if table is None:
                continue
            num_full = table.num_tokens // self._pool.page_tokens
            if num_full > sequence.num_registered:
                root = sequence.request.context.root
                ids = sequence.ids[: table.num_tokens]
                sequence.node = self._index.register(
                    root, sequence.node, sequence.num_registered, ids, table.pages
                )
                sequence.num_registered = num_full
