from __future__ import annotations

import pytest

from tokenloom.runtime.policies import POLICIES
from tokenloom.runtime.policies.contract import Grant, RequestView, Snapshot


def view(id: int, to_compute: int = 10, priority: int = 0, cached: int = 0) -> RequestView:
    made = RequestView(id, f"r{id}", priority, 100 + id, to_compute, 8, num_to_compute=to_compute)
    made.cached_tokens = lambda: cached
    return made


def snapshot(
    waiting: list[RequestView], prefilling: list[RequestView], rows: int, slots: int
) -> Snapshot:
    return Snapshot(1000, waiting, prefilling, [], 50, 100, 16, rows, slots)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_running_prefills_go_first_and_rows_are_shared_in_order(name: str):
    policy = POLICIES[name]()
    assert policy.name == name
    seen = snapshot([view(2), view(1)], [view(0, 7)], rows=20, slots=2)
    assert policy.admit(seen) == [Grant(0, 7), Grant(1, 10), Grant(2, 3)]


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_no_more_are_admitted_than_there_are_slots(name: str):
    policy = POLICIES[name]()
    seen = snapshot([view(1), view(2)], [view(0, 7)], rows=100, slots=1)
    assert policy.admit(seen) == [Grant(0, 7), Grant(1, 10)]
    assert policy.admit(snapshot([view(1)], [], rows=100, slots=0)) == []


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_a_higher_priority_is_served_first_and_preempted_last(name: str):
    policy = POLICIES[name]()
    views = [view(1), view(2, priority=5), view(3, priority=5)]
    admitted = [grant.request_id for grant in policy.admit(snapshot(views, [], 100, 3))]
    assert admitted == [2, 3, 1]
    assert policy.victims(views) == [1, 3, 2]


def test_lru_prefix_serves_what_is_cached_first():
    waiting = [view(1), view(2, cached=32), view(3, cached=64)]
    seen = snapshot(waiting, [], 100, 3)
    assert [g.request_id for g in POLICIES["lru-prefix"]().admit(seen)] == [3, 2, 1]
    assert [g.request_id for g in POLICIES["fcfs"]().admit(seen)] == [1, 2, 3]
