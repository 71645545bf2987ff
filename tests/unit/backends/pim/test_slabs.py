from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.backends.pim.controller.slabs import SlabPool

FRAMES, SIZE = 5, 7


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "frame", "free"]), st.integers(1, SIZE)), max_size=60
    )
)
def test_places_never_overlap_and_room_is_what_can_be_taken(steps: list[tuple[str, int]]) -> None:
    pool = SlabPool(FRAMES, SIZE)
    held: list[tuple[int, int, int]] = []
    for step, number in steps:
        if step == "free" and held:
            frame, offset, _ = held.pop(number % len(held))
            pool.free(frame, offset)
        elif step == "frame" and pool.allocate_frame(number):
            held.append((number, 0, SIZE))
        elif step == "take":
            room = pool.room(number)
            place = pool.allocate(number)
            assert (place is not None) == (room > 0)
            if place is not None:
                assert pool.room(number) == room - 1
                held.append((*place, number))
    units = [(frame, unit) for frame, at, size in held for unit in range(at, at + size)]
    assert len(units) == len(set(units))
    assert all(0 <= frame < FRAMES and unit < SIZE for frame, unit in units)
    for frame, offset, _ in held:
        pool.free(frame, offset)
    assert [pool.allocate(SIZE) is not None for _ in range(FRAMES + 1)] == [True] * FRAMES + [False]


def test_what_is_not_taken_cannot_be_given_back() -> None:
    pool = SlabPool(2, 4)
    frame, offset = pool.allocate(2) or (9, 9)
    pool.allocate(2)
    pool.free(frame, offset)
    with pytest.raises(ValueError, match="nothing is taken at 0 of frame 0"):
        pool.free(frame, offset)
    with pytest.raises(ValueError, match="nothing is taken at 1 of frame 0"):
        pool.free(0, 1)
    with pytest.raises(KeyError):
        pool.free(1, 0)


def test_a_frame_in_use_or_unknown_is_not_given_out() -> None:
    pool = SlabPool(2, 4)
    assert pool.allocate_frame(1)
    assert not pool.allocate_frame(1)
    assert not pool.allocate_frame(2)
    assert pool.allocate(4) == (0, 0)
    assert pool.allocate(4) is None
    assert SlabPool(2, 4).allocate(5) is None
