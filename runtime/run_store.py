"""Which pages hold the KV of runs. It knows nothing of who needs a run, or how it is computed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from tokenloom.runtime.pages import PagePool
from tokenloom.runtime.reuse import Node
from tokenloom.runtime.runs import Ids, Run


@dataclass(eq=False)
class StoredRun:
    """A run as one engine has it: equal runs are the same object.

    `pages` is None while its KV is not there. `is_counted` once some request has linked it, whose
    own its tokens are then said to be. The key is a digest of all else, for chains behind it.
    """

    root: Node
    head: bytes
    head_runs: tuple[tuple[int, StoredRun], ...]
    tokens: bytes
    key: bytes
    pages: list[int] | None = None
    is_counted: bool = field(default=False)


_Content = tuple[Node, bytes, tuple[tuple[int, StoredRun], ...], bytes]


class RunStore:
    """Which pages hold the KV of a run, as long as the pool keeps them.

    Runs are told apart by what they are and not by a digest of it, so no two are ever confused. The
    store holds no reference on a page.
    """

    def __init__(self, pool: PagePool):
        self._pool = pool
        self._by_content: WeakValueDictionary[_Content, StoredRun] = WeakValueDictionary()
        self._by_run: WeakKeyDictionary[Run, dict[Node, StoredRun]] = WeakKeyDictionary()
        self._by_page: dict[int, StoredRun] = {}
        pool.on_evict.append(self._evicted)

    def stored(self, root: Node, run: Run) -> StoredRun:
        """Return what is known of a run below `root`; equal runs give the same object."""
        known = self._by_run.setdefault(run, {})
        if root not in known:
            known[root] = self._intern(root, run)
        return known[root]

    def put(self, stored: StoredRun, pages: Sequence[int]) -> None:
        """Say that these pages hold the run, or will before anybody reads them; they are sealed."""
        stored.pages, stored.is_counted = list(pages), False
        for page in pages:
            self._by_page[page] = stored
            self._pool.keep(page)
        self._pool.seal(pages[-1])

    def clear(self) -> None:
        """Forget all pages, as after a step that failed and left them unwritten."""
        for page in list(self._by_page):
            self._evicted(page)
            self._pool.forget(page)

    def _intern(self, root: Node, run: Run) -> StoredRun:
        links = tuple((link.start, self.stored(root, link.run)) for link in run.head_links)
        content = root, _bytes(run.head_ids), links, _bytes(run.ids)
        found = self._by_content.get(content)
        if found is None:
            digest = hashlib.blake2b(root.key, digest_size=16)
            digest.update(repr((run.head_ids, [(at, r.key) for at, r in links], run.ids)).encode())
            found = StoredRun(*content, digest.digest())
            self._by_content[content] = found
        return found

    def _evicted(self, page: int) -> None:
        stored = self._by_page.pop(page, None)
        if stored is not None and stored.pages is not None and page in stored.pages:
            stored.pages = None


def _bytes(ids: Ids) -> bytes:
    return np.array(ids, np.int32).tobytes()
