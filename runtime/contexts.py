"""Contexts that clients hold, and their pages as long as memory lasts.

It knows nothing of what is computing.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from tokenloom.runtime.pages import IntArray, PagePool
from tokenloom.runtime.request import ContextHandle
from tokenloom.runtime.reuse import Node
from tokenloom.runtime.runs import Link
from tokenloom.runtime.sequence import Sequence


class ContextReleased(Exception):
    """A context was used after its last holder released it: a bug of the caller."""


class Contexts:
    """All contexts with pages, least recently used first. Callers hold the engine's lock."""

    def __init__(self, pool: PagePool):
        self._pool = pool
        self._paged: OrderedDict[int, ContextHandle] = OrderedDict()
        self._next_id = 0

    def make(self, token_ids: IntArray, root: Node, links: tuple[Link, ...] = ()) -> ContextHandle:
        """Return a new context, held once, without pages."""
        self._next_id += 1
        return ContextHandle(self._next_id, token_ids, root, links)

    def from_sequence(self, sequence: Sequence, *, keep_pages: bool) -> ContextHandle:
        """Return the history of a finished sequence; its pages go over to the context."""
        close_ids = np.array(sequence.request.close_ids, np.int32)
        ids = np.concatenate([sequence.ids, close_ids])
        context = self.make(ids, sequence.request.context.root, sequence.links)
        path, sequence.path = sequence.path, None
        if path is not None and keep_pages:
            context.path = path
            self._paged[context.id] = context
        elif path is not None:
            self._pool.release(path.table.pages)
        return context

    def check_held(self, context: ContextHandle) -> None:
        """Raise ContextReleased where nobody holds the context any more."""
        if context.references <= 0:
            raise ContextReleased(f"{context!r} was released and cannot be used")

    def retain(self, context: ContextHandle) -> None:
        """Count one more holder, and the context as used now."""
        self.check_held(context)
        context.references += 1
        if context.id in self._paged:
            self._paged.move_to_end(context.id)

    def release(self, context: ContextHandle) -> None:
        """Count one holder less; the last one's release gives the pages back."""
        self.check_held(context)
        context.references -= 1
        if context.references == 0:
            self._drop(context)

    def drop_oldest(self) -> bool:
        """Take the pages of the least recently used context; False where none has any."""
        if not self._paged:
            return False
        self._drop(next(iter(self._paged.values())))
        return True

    def drop_all(self) -> None:
        """Take all pages, as after a step that failed."""
        while self.drop_oldest():
            pass

    def _drop(self, context: ContextHandle) -> None:
        path, context.path = context.path, None
        if path is not None:
            del self._paged[context.id]
            self._pool.release(path.table.pages)
