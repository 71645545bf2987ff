"""First come, first served, within a priority."""

from __future__ import annotations

from tokenloom.runtime.policies.contract import Grant, Policy, Snapshot, fill_rows


class Fcfs(Policy):
    """Serve by priority, then in order of arrival."""

    name = "fcfs"

    def admit(self, snapshot: Snapshot) -> list[Grant]:
        """Grant rows in that order."""
        order = sorted(snapshot.waiting, key=lambda v: (-v.priority, v.arrival_ns, v.id))
        return fill_rows(snapshot, order)
