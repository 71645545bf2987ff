"""Runs: text whose KV is computed once, behind one head, and then read from many contexts.

A run is a value: what its KV is follows from the ids before it and its own, whoever computes it and
whenever. It knows nothing of who needs a run, or of where its KV is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Ids = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Run:
    """`ids`, computed behind `head_ids`, which may have runs of their own: `head_links`.

    `is_secret` says that a secret is in the head or the run.
    """

    head_ids: Ids
    head_links: tuple[Link, ...]
    ids: Ids
    is_secret: bool = False

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Link:
    """The run that a text has from token `start` on, as it was computed behind its own head."""

    start: int
    run: Run

    @property
    def end(self) -> int:
        """The position behind the run."""
        return self.start + len(self.run)

    def moved(self, by: int) -> Link:
        """Return the link at another place."""
        return Link(self.start + by, self.run)


def pages_of(num_tokens: int, links: Sequence[Link], page_tokens: int) -> int:
    """Return the most pages that a text, or a run in it with its head, ever takes.

    A run, linked or in between, has pages of its own. One page more is counted, since the last page
    of a shared context may have to be copied.
    """
    texts = [(num_tokens, links)]
    for run in (link.run for link in links):
        whole = Link(len(run.head_ids), run)
        texts.append((whole.end, (*run.head_links, whole)))
    return 1 + max(_pages_of_text(*text, page_tokens) for text in texts)


def _pages_of_text(num_tokens: int, links: Sequence[Link], page_tokens: int) -> int:
    ends = [0, *(end for link in links for end in (link.start, link.end)), num_tokens]
    return sum(-(-(end - start) // page_tokens) for start, end in pairwise(ends))
