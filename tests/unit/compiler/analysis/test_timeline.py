from __future__ import annotations

import pytest

from tokenloom.compiler.analysis.estimates import AT_START
from tokenloom.compiler.analysis.timeline import Timeline


def step_ns(batch: int, context: int) -> float:
    return 10.0 + batch


def test_the_longest_path_and_what_is_left() -> None:
    timeline = Timeline()
    short = timeline.tool([AT_START], 5)
    long = timeline.tool([AT_START], 9)
    last = timeline.tool([short, long], 2)
    assert timeline.finish() == 11
    assert [timeline.events[event].remaining_ns for event in (short, long, last)] == [7, 11, 2]
    assert timeline.events[last].start_ns == 9


def test_a_join_takes_no_time_and_no_depth() -> None:
    timeline = Timeline()
    events = [timeline.tool([AT_START], 3) for _ in range(2)]
    joined = timeline.join(events)
    assert timeline.join([joined, AT_START]) == joined
    assert timeline.join([]) == AT_START
    assert timeline.events[joined].depth == 1
    assert timeline.finish() == 3


def test_asks_at_one_depth_share_steps_and_not_prefills() -> None:
    timeline = Timeline()
    for tokens in (2, 3):
        timeline.ask([AT_START], 100.0, tokens, 16, step_ns)
    steps = 2 * step_ns(2, 16) + 1 * step_ns(1, 16)
    assert timeline.total_ns() == pytest.approx(200.0 + steps)
    assert timeline.finish() == pytest.approx(100.0 + 3 * step_ns(1, 16))


def test_a_tool_runs_beside_the_asks_of_its_depth() -> None:
    timeline = Timeline()
    timeline.ask([AT_START], 100.0, 1, 16, step_ns)
    timeline.tool([AT_START], 5000.0)
    assert timeline.total_ns() == 5000.0
