"""What a scheduling policy sees and decides.

A policy is a small class that orders work; it moves nothing itself and no choice of it changes a
token. It knows nothing of pages' contents, devices or models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class RequestView:
    """One request as a policy sees it; the scheduler keeps the numbers up to date.

    `id` counts submissions. `num_to_compute` are the tokens that still need a row before the next
    token can be drawn: the rest of the prompt, or 1 while decoding. `cached_tokens()` says how many
    of them the prefix index knows now.
    """

    id: int
    name: str
    priority: int
    arrival_ns: int
    num_prompt: int
    max_tokens: int
    num_to_compute: int = 0
    num_generated: int = 0
    num_pages: int = 0
    cached_tokens: Callable[[], int] = field(default=lambda: 0)


@dataclass(frozen=True)
class Snapshot:
    """The state before a step.

    `waiting` hold no pages; `prefilling` and `decoding` run. A step has `num_free_rows` rows
    beside those of `decoding`, and `num_free_slots` more requests may run.
    """

    now_ns: int
    waiting: Sequence[RequestView]
    prefilling: Sequence[RequestView]
    decoding: Sequence[RequestView]
    num_free_pages: int
    num_pages: int
    page_tokens: int
    num_free_rows: int
    num_free_slots: int


@dataclass(frozen=True)
class Grant:
    """`num_tokens` rows for a request; one that waits is admitted by it."""

    request_id: int
    num_tokens: int


class Policy(ABC):
    """Decides who computes in a step and who gives way. Deterministic in what it is shown."""

    name: str

    @abstractmethod
    def admit(self, snapshot: Snapshot) -> list[Grant]:
        """Return the prefill work of this step, most urgent first.

        Grants beyond the free rows, slots or pages are cut by the scheduler, in order. Whatever
        runs must get rows in some step; a policy that grants nothing while nothing decodes stalls.
        """

    def victims(self, running: Sequence[RequestView]) -> list[int]:
        """Return the ids of running requests, the first to be preempted first.

        A preempted request waits again and loses its pages, never its tokens. The last of the list
        is not preempted by any other, so it always comes to its end.
        """
        order = sorted(running, key=lambda view: (view.priority, -view.arrival_ns, -view.id))
        return [view.id for view in order]


def fill_rows(snapshot: Snapshot, order: Sequence[RequestView]) -> list[Grant]:
    """Grant as many rows as there are: running prefills first, then `order` for free slots."""
    grants: list[Grant] = []
    rows = snapshot.num_free_rows
    for view in [*snapshot.prefilling, *order[: snapshot.num_free_slots]]:
        if rows == 0:
            break
        grants.append(Grant(view.id, min(rows, view.num_to_compute)))
        rows -= grants[-1].num_tokens
    return grants
