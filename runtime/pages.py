"""Pages of KV cache: who holds which page, and page tables over them.

A page holds `page_tokens` tokens of every layer. It knows nothing of tokens, models, devices, or
what the pages contain.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int32]


class OutOfPages(Exception):
    """More pages were asked for than are free."""

    def __init__(self, asked: int, free: int, total: int):
        super().__init__(f"{asked} pages asked, {free} of {total} are free")
        self.asked = asked
        self.free = free
        self.total = total


class PageError(Exception):
    """The books do not add up: a bug of the caller or of this module."""


class PagePool:
    """Reference counts of `num_pages` pages. Every page is free, used or pending.

    A free page may still be *cached*: its content is worth keeping until the page is taken. Pages
    without such content are taken first, then cached ones, longest free first; `on_evict`, where
    those who find pages enter themselves, are told of each cached page that is taken. A page that
    is released while a copy reads it is pending until the copy is done. Equal calls in equal order
    give equal pages.
    """

    def __init__(self, num_pages: int, page_tokens: int = 16):
        self.num_pages = num_pages
        self.page_tokens = page_tokens
        self.on_evict: list[Callable[[int], None]] = []
        self._references = [0] * num_pages
        self._filled = [0] * num_pages
        self._readers: dict[int, int] = {}
        self._pending: set[int] = set()
        self._cached: set[int] = set()
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_pages))

    @property
    def num_free(self) -> int:
        """Pages that `allocate` can give, cached ones included."""
        return len(self._free)

    @property
    def num_pending(self) -> int:
        """Pages that nobody holds and a copy still reads."""
        return len(self._pending)

    @property
    def num_used(self) -> int:
        """Pages that somebody holds."""
        return self.num_pages - len(self._free) - len(self._pending)

    @property
    def num_cached(self) -> int:
        """Pages, free or used, whose content can be found again."""
        return len(self._cached)

    def references(self, page: int) -> int:
        """Return how many hold the page."""
        return self._references[page]

    def allocate(self, count: int) -> list[int]:
        """Take `count` empty pages, each held once. Raises OutOfPages and then takes none."""
        if count > len(self._free):
            raise OutOfPages(count, len(self._free), self.num_pages)
        pages = [self._free.popitem(last=False)[0] for _ in range(count)]
        for page in pages:
            self._references[page] = 1
            self._filled[page] = 0
            if page in self._cached:
                self._cached.remove(page)
                for told in self.on_evict:
                    told(page)
        return pages

    def retain(self, pages: Iterable[int]) -> None:
        """Hold each page once more. A free page must be cached: its content comes back to use."""
        for page in pages:
            if self._references[page] == 0:
                if page not in self._cached:
                    raise PageError(f"page {page} is retained, but is free and holds nothing")
                self._pending.discard(page)
                self._free.pop(page, None)
            self._references[page] += 1

    def release(self, pages: Iterable[int]) -> None:
        """Let go of each page once. Of the pages that become free, the last is taken again first.

        So of a chain of pages the end is lost before the beginning, without which it is useless.
        """
        for page in reversed(list(pages)):
            if self._references[page] <= 0:
                raise PageError(f"page {page} is released more often than it was retained")
            self._references[page] -= 1
            if self._references[page] == 0:
                self._let_go(page)

    def _let_go(self, page: int) -> None:
        if page in self._readers:
            self._pending.add(page)
            return
        self._free[page] = None
        if page not in self._cached:
            self._free.move_to_end(page, last=False)

    def keep(self, page: int) -> None:
        """Mark a used page as cached: it stays findable after its release, until it is taken."""
        if self._references[page] == 0:
            raise PageError(f"page {page} is to be kept, but is free")
        self._cached.add(page)

    def forget(self, page: int) -> None:
        """Undo `keep`; `on_evict` is not called."""
        self._cached.discard(page)
        if page in self._free:
            self._free.move_to_end(page, last=False)

    def begin_copy(self, page: int) -> None:
        """Say that a copy reads the page from now on."""
        self._readers[page] = self._readers.get(page, 0) + 1

    def end_copy(self, page: int) -> None:
        """Say that the copy is done; a pending page becomes free with its last copy."""
        if self._readers[page] > 1:
            self._readers[page] -= 1
            return
        del self._readers[page]
        if page in self._pending:
            self._pending.remove(page)
            self._let_go(page)

    def can_append(self, page: int, length: int) -> bool:
        """Say whether a table that sees `length` tokens of the page may write the next one in it.

        A page only grows: tables that end inside it see different lengths of it, and the first
        that goes on gets the place. Any other must copy the page.
        """
        return self._filled[page] == length < self.page_tokens

    def fill(self, page: int, length: int) -> None:
        """Say that `length` tokens of the page are now written, or about to be."""
        self._filled[page] = length

    def seal(self, page: int) -> None:
        """Let nobody append to the page again: its run is complete."""
        self._filled[page] = self.page_tokens

    def check_integrity(self) -> None:
        """Raise PageError unless every page is in exactly one state and all counts agree."""
        free, pending = set(self._free), self._pending
        used = {page for page, count in enumerate(self._references) if count > 0}
        if any(count < 0 for count in self._references):
            raise PageError("a reference count is negative")
        if free & pending or free & used or pending & used:
            raise PageError("a page is in two states at once")
        if len(free) + len(pending) + len(used) != self.num_pages:
            raise PageError(f"{len(free)} free + {len(pending)} pending + {len(used)} used pages")
        if not pending <= set(self._readers):
            raise PageError("a page is pending and no copy reads it")


_PAGE, _FRAME, _POSITION, _LENGTH = range(4)


class PageTable:
    """Which page holds which tokens of one context, in ascending position.

    A *run* is a row of pages with one frame: all but its last are full, and its tokens count from
    `frame_start`, the true position of its first; all of these are those of the last run. A table
    belongs to one owner, who changes it and gives its pages back; `entries` has a column a page:
    page, frame start, true position of the page's first token, number of tokens.
    """

    __slots__ = ("_entries", "_page_tokens", "_run_entry", "frame_start", "num_pages", "num_tokens")

    def __init__(self, page_tokens: int, capacity: int = 16):
        self._page_tokens = page_tokens
        self._entries: IntArray = np.zeros((4, capacity), np.int32)
        self._run_entry = 0
        self.frame_start = 0
        self.num_pages = 0
        self.num_tokens = 0

    @property
    def entries(self) -> IntArray:
        """The table, int32[4, num_pages]; a view that the next `grow` may outdate."""
        return self._entries[:, : self.num_pages]

    @property
    def pages(self) -> list[int]:
        """The pages, in order; a page may occur twice."""
        return self._entries[_PAGE, : self.num_pages].tolist()

    @property
    def last_page(self) -> int:
        """The page that holds the last token; the table must not be empty."""
        return int(self._entries[_PAGE, self.num_pages - 1])

    @property
    def last_length(self) -> int:
        """How many tokens the last page of the last run holds here; 0 where it has no page yet."""
        if self.num_pages == self._run_entry:
            return 0
        return int(self._entries[_LENGTH, self.num_pages - 1])

    @property
    def frame_pages(self) -> list[int]:
        """The pages of the last run, in order."""
        return self._entries[_PAGE, self._run_entry : self.num_pages].tolist()

    def copy(self) -> PageTable:
        """Return an equal table. Its owner must retain the pages."""
        other = PageTable(self._page_tokens, max(16, self.num_pages + 8))
        other._entries[:, : self.num_pages] = self.entries
        other._run_entry, other.frame_start = self._run_entry, self.frame_start
        other.num_pages, other.num_tokens = self.num_pages, self.num_tokens
        return other

    def missing_pages(self, num_tokens: int) -> int:
        """Return how many new pages hold `num_tokens` more tokens."""
        in_frame = self.num_tokens - self.frame_start
        pages = self.num_pages - self._run_entry
        return max(0, -(-(in_frame + num_tokens) // self._page_tokens) - pages)

    def replace_last(self, page: int) -> None:
        """Put `page`, a copy of the last page, in its place."""
        self._entries[_PAGE, self.num_pages - 1] = page

    def take_pages(self, pages: Iterable[int], num_tokens: int | None = None) -> None:
        """Append pages that another context wrote at this position of the same frame.

        They are full, but where `num_tokens` in all leave the last of them shorter.
        """
        end = None if num_tokens is None else self.num_tokens + num_tokens
        for page in pages:
            self._append(page)
            rest = self._page_tokens if end is None else end - self.num_tokens
            self._entries[_LENGTH, self.num_pages - 1] = min(rest, self._page_tokens)
            self.num_tokens += min(rest, self._page_tokens)

    def open_frame(self) -> None:
        """End the last run: what comes next is another, in a frame and pages of its own."""
        self._run_entry, self.frame_start = self.num_pages, self.num_tokens

    def link(self, pages: Iterable[int], num_tokens: int) -> None:
        """Append a whole run that was written elsewhere, as it is; then `open_frame`."""
        self.open_frame()
        self.take_pages(pages, num_tokens)
        self.open_frame()

    def grow(self, num_tokens: int, new_pages: Iterable[int]) -> IntArray:
        """Make room for `num_tokens` more tokens; return their slots, page * page_tokens + offset.

        `new_pages` are as many as `missing_pages` said.
        """
        for page in new_pages:
            self._append(page)
        first = self.num_tokens - self.frame_start
        offsets = np.arange(first, first + num_tokens, dtype=np.int32)
        entry = self._run_entry + offsets // self._page_tokens
        slots = self._entries[_PAGE, entry] * self._page_tokens + offsets % self._page_tokens
        self.num_tokens += num_tokens
        self._set_lengths(int(entry[0]))
        return slots

    def _set_lengths(self, first_entry: int) -> None:
        last = self.num_pages - 1
        self._entries[_LENGTH, first_entry:last] = self._page_tokens
        self._entries[_LENGTH, last] = self.num_tokens - int(self._entries[_POSITION, last])

    def _append(self, page: int) -> None:
        if self.num_pages == self._entries.shape[1]:
            self._entries = np.concatenate([self._entries, np.zeros_like(self._entries)], axis=1)
        index = self.num_pages
        position = self.frame_start + (index - self._run_entry) * self._page_tokens
        self._entries[:, index] = (page, self.frame_start, position, 0)
        self.num_pages += 1


@dataclass(frozen=True)
class Extension:
    """Room for new tokens: a slot each, and the page that must be copied before, from and to.

    The source of the copy is held by `begin_copy`: call `end_copy` when the copy is done.
    """

    slots: IntArray
    copy: tuple[int, int] | None


def pages_to_extend(pool: PagePool, table: PageTable, num_tokens: int) -> int:
    """Return how many pages `extend` will allocate."""
    return table.missing_pages(num_tokens) + _must_copy(pool, table)


def extend(pool: PagePool, table: PageTable, num_tokens: int) -> Extension:
    """Make room for `num_tokens` more tokens, at least one, in a table and its pages.

    A last page that another table has written on in is copied first. Raises OutOfPages and then
    changes nothing.
    """
    must_copy = _must_copy(pool, table)
    pages = pool.allocate(table.missing_pages(num_tokens) + must_copy)
    copy = None
    if must_copy:
        copy = table.last_page, pages.pop()
        table.replace_last(copy[1])
        pool.begin_copy(copy[0])
        pool.release([copy[0]])
    first_touched = table.num_pages - (1 if table.missing_pages(1) == 0 else 0)
    slots = table.grow(num_tokens, pages)
    for page, length in table.entries[[_PAGE, _LENGTH], first_touched:].T.tolist():
        pool.fill(page, length)
    return Extension(slots, copy)


def _must_copy(pool: PagePool, table: PageTable) -> bool:
    length = table.last_length
    return 0 < length < pool.page_tokens and not pool.can_append(table.last_page, length)
