"""Where a sequence's KV comes from: pages that are known already, and runs computed elsewhere.

It knows nothing of which sequence goes first, or of rows.
"""

from __future__ import annotations

from tokenloom.runtime.kv_path import KvPath
from tokenloom.runtime.pages import PagePool, PageTable, pages_to_extend
from tokenloom.runtime.reuse import PrefixIndex
from tokenloom.runtime.run_store import RunStore, StoredRun
from tokenloom.runtime.sequence import Sequence


class KvSource:
    """Sets sequences on their way and takes them over run boundaries.

    With `index` None no prefix is found; runs are shared all the same, since they are what a text
    means and not only what it costs.
    """

    def __init__(self, pool: PagePool, index: PrefixIndex | None, runs: RunStore):
        self._pool = pool
        self._index = index
        self._runs = runs

    def adopt(self, sequence: Sequence) -> None:
        """Look the runs of a new sequence up."""
        root = sequence.request.context.root
        sequence.runs = tuple(self._runs.stored(root, link.run) for link in sequence.links)

    def missing_runs(self, sequence: Sequence) -> list[StoredRun]:
        """Return the runs that a waiting sequence will link and that have no KV now."""
        if not sequence.links:
            return []
        path = sequence.request.context.path
        first = path.num_linked if path is not None else 0
        return [run for run in sequence.runs[first:] if run.pages is None]

    def num_found(self, sequence: Sequence) -> int:
        """Return how many tokens have KV already."""
        own = sequence.request.context.path
        return max(self._find(sequence).table.num_tokens, own.table.num_tokens if own else 0)

    def begin(self, sequence: Sequence) -> None:
        """Give a sequence as much as there is KV of: its context's own pages, or found ones.

        No run may be missing.
        """
        own = sequence.request.context.path
        path = self._find(sequence)
        if own is not None and path.table.num_tokens <= own.table.num_tokens:
            path = own.copy()
        self._pool.retain(path.table.pages)
        sequence.path = path
        for run in sequence.runs[path.num_linked :]:
            assert run.pages is not None
            self._pool.retain(run.pages)
            sequence.held += run.pages
        self.cross(sequence)

    def release(self, sequence: Sequence) -> None:
        """Give all pages of a sequence back."""
        if sequence.path is not None:
            self._pool.release(sequence.path.table.pages)
            sequence.path = None
        self._pool.release(sequence.held)
        sequence.held = []

    def pages_needed(self, sequence: Sequence, num_tokens: int) -> int:
        """Return how many pages it takes to compute the next `num_tokens` tokens."""
        path = sequence.path
        assert path is not None
        if sequence.is_in_last_run(path):
            return pages_to_extend(self._pool, path.table, num_tokens)
        here, *ahead = sequence.lengths_ahead(path)
        needed = pages_to_extend(self._pool, path.table, min(here, num_tokens))
        rest = num_tokens - here
        for length in ahead:
            needed += -(-max(0, min(length, rest)) // self._pool.page_tokens)
            rest -= length
        return needed

    def cross(self, sequence: Sequence) -> None:
        """Take a sequence over the end of its run, if it is there, and over runs linked there."""
        path = sequence.path
        assert path is not None
        while not sequence.is_in_last_run(path) and sequence.lengths_ahead(path)[0] == 0:
            self._close(sequence, path)
            self._open(sequence, path)

    def register(self, sequence: Sequence) -> None:
        """Make full pages findable, also those that this step is yet to write.

        Within a step each layer appends all rows before any row attends, so a request of the same
        step may already read them.
        """
        path = sequence.path
        if path is None:
            return
        if path.fills:
            self._store(sequence, path)
        elif self._index is not None:
            self._extend_chain(sequence, path, is_closed=False)

    def _store(self, sequence: Sequence, path: KvPath) -> None:
        """Give a run to those that wait for it once all of its rows are planned."""
        fills = sequence.fills
        if fills is not None and fills.pages is None and sequence.num_to_compute == 0:
            self._runs.put(fills, path.table.frame_pages)

    def _close(self, sequence: Sequence, path: KvPath) -> None:
        """Seal the last run: its last page is findable, and nobody appends to it."""
        if path.table.last_length and self._index is not None:
            self._extend_chain(sequence, path, is_closed=True)
        if path.table.last_length:
            self._pool.seal(path.table.last_page)

    def _open(self, sequence: Sequence, path: KvPath) -> None:
        """Link the run that begins here, or begin the one that is to be computed."""
        if path.num_linked == len(sequence.links):
            path.open_frame(path.node)
            path.fills = True
            return
        run = sequence.runs[path.num_linked]
        link = sequence.links[path.num_linked]
        pages = sequence.held[: -(-len(link.run) // self._pool.page_tokens)]
        del sequence.held[: len(pages)]
        self._link(path, run, pages, len(link.run))

    def _link(self, path: KvPath, run: StoredRun, pages: list[int], num_tokens: int) -> None:
        path.table.link(pages, num_tokens)
        node = path.node if self._index is None else self._index.behind(path.node, run)
        path.open_frame(node)
        path.num_linked += 1

    def _extend_chain(self, sequence: Sequence, path: KvPath, *, is_closed: bool) -> None:
        table = path.table
        num_tokens = table.num_tokens - table.frame_start
        num_full = num_tokens // self._pool.page_tokens
        if num_full > path.num_registered or (is_closed and num_tokens % self._pool.page_tokens):
            assert self._index is not None
            ids = sequence.ids[table.frame_start : table.num_tokens]
            path.node = self._index.register(
                path.frame,
                path.node,
                path.num_registered,
                ids,
                table.frame_pages,
                is_closed=is_closed,
            )
            path.num_registered = num_full

    def _find(self, sequence: Sequence) -> KvPath:
        """Return what the index and the run store know of a sequence; nothing is retained."""
        root = sequence.request.context.root
        path = KvPath(PageTable(self._pool.page_tokens), root, root)
        while self._index is not None:
            here, *ahead = sequence.lengths_ahead(path)
            # The last token is computed in any case: its logits are wanted.
            limit = here if ahead else here - 1
            pages, path.node = self._index.match(
                path.frame, sequence.ids[path.table.num_tokens :], limit, is_closed=bool(ahead)
            )
            count = min(limit, len(pages) * self._pool.page_tokens)
            path.table.take_pages(pages, count)
            path.num_registered = len(pages)
            if not ahead or count < limit or path.num_linked == len(sequence.runs):
                break
            run = sequence.runs[path.num_linked]
            if run.pages is None:
                break
            self._link(path, run, run.pages, len(sequence.links[path.num_linked].run))
        return path

    def count_reused(self, sequence: Sequence) -> None:
        """Note what a sequence that begins need not compute, if it begins for the first time."""
        path = sequence.path
        if path is None or sequence.num_reused is not None:
            return
        old = len(sequence.request.context.links)
        new = range(old, len(sequence.links))
        passed = sum(len(sequence.links[i].run) for i in new if i < path.num_linked)
        sequence.num_reused = path.table.num_tokens - passed
        for link, run in zip(sequence.links[old:], sequence.runs[old:], strict=True):
            if run.is_counted:
                sequence.num_linked_reused += len(link.run)
            run.is_counted = True
