"""Serve first what the prefix cache knows, before least recent use evicts it."""

from __future__ import annotations

from tokenloom.runtime.policies.contract import Grant, Policy, Snapshot, fill_rows

WINDOW = 16
"""How many of the longest waiting are compared: looking a prefix up takes time in every step."""


class LruPrefix(Policy):
    """Order the longest waiting of equal priority by their cached prefix, the longest first."""

    name = "lru-prefix"

    def admit(self, snapshot: Snapshot) -> list[Grant]:
        """Grant rows in that order."""
        order = sorted(snapshot.waiting, key=lambda v: (-v.priority, v.arrival_ns, v.id))
        window, rest = order[:WINDOW], order[WINDOW:]
        if snapshot.num_free_slots:
            window.sort(key=lambda v: (-v.priority, -v.cached_tokens()))
        return fill_rows(snapshot, [*window, *rest])
