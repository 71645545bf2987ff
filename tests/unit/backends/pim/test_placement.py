from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.controller.hotness import Hotness
from tokenloom.backends.pim.controller.kv_shape import BlockId, KvShape
from tokenloom.backends.pim.controller.placement import (
    BlockCosts,
    Placement,
    Replication,
    break_even_reads,
    choose_channel,
)

from .heterogeneous import small_hbm4

STACK = small_hbm4(channels=32)
COSTS = BlockCosts.of(STACK, KvShape(1, 1, 128))
BLOCKS = [BlockId(0, 0, index) for index in range(12)]


def hotness_of(reads: dict[BlockId, float]) -> Hotness:
    hotness = Hotness(0)
    hotness.observe(reads)
    return hotness


def test_two_reads_lose_energy_and_three_win() -> None:
    assert break_even_reads(STACK) == pytest.approx(52.64 / (28.72 - 4.40))
    assert break_even_reads(STACK) == pytest.approx(2.16, abs=0.005)
    assert COSTS.break_even_reads == break_even_reads(STACK)
    assert 2 * COSTS.saved_pj < COSTS.migrate_pj < 3 * COSTS.saved_pj
    assert not COSTS.worth(2)
    assert COSTS.worth(3)


def test_energy_decides_where_time_alone_would_not() -> None:
    fast = replace(COSTS, migrate_ns=0.0)
    assert 2 * fast.saved_ns > fast.migrate_ns
    assert not fast.worth(2)
    slow = replace(COSTS, migrate_ns=100 * COSTS.saved_ns)
    assert not slow.worth(99)
    assert slow.worth(101)


def test_int8_breaks_even_sooner_and_units_further_away_later() -> None:
    coded = BlockCosts.of(STACK, KvShape(1, 1, 128), "int8")
    assert coded.break_even_reads < 2 < COSTS.break_even_reads
    levels = [break_even_reads(STACK.at(level)) for level in ("bank", "bank-group", "buffer")]
    assert levels == sorted(levels)
    assert levels[-1] > 20


def test_costs_are_those_of_one_stack() -> None:
    six = load_machine("hbm4-het-1of4").pim
    assert six is not None
    assert six.stacks == 6
    whole = BlockCosts.of(six, KvShape(1, 1, 128))
    assert whole.dense_read_ns == pytest.approx(8192 / 2048)
    assert whole.migrate_ns == pytest.approx(2 * 8192 / 2048)
    assert whole.pim_read_ns == pytest.approx(8192 / 10920, rel=1e-3)
    assert (whole.migrate_pj, whole.size_bytes) == (COSTS.migrate_pj, 8192)


@given(
    st.dictionaries(st.sampled_from(BLOCKS), st.floats(0, 20)),
    st.sets(st.sampled_from(BLOCKS)),
    st.integers(0, 8),
    st.integers(1, 4),
)
def test_capacity_is_kept_and_every_move_pays(
    reads: dict[BlockId, float], resident: set[BlockId], capacity: int, windows: int
) -> None:
    hotness = hotness_of(reads)
    plan = Placement(COSTS, capacity, windows).plan(hotness, resident)
    after = (resident - set(plan.evict)) | set(plan.promote)
    assert len(after) <= capacity
    assert set(plan.evict) <= resident
    assert not set(plan.promote) & resident
    assert len(set(plan.promote)) == len(plan.promote)
    assert len(set(plan.evict)) == len(plan.evict)
    expected = {block: hotness.expected_reads(block, windows) for block in BLOCKS}
    assert all(COSTS.worth(expected[block]) for block in plan.promote)
    forced = max(0, len(resident) - capacity)
    gained = sum(expected[block] for block in plan.promote)
    lost = sum(expected[block] for block in plan.evict[forced:])
    moves = len(plan.promote) + len(plan.evict) - forced
    assert gained == lost == 0 or COSTS.worth(gained - lost, moves)
    left = [block for block in BLOCKS if block not in after and block not in resident]
    if len(after) < capacity:
        assert not any(COSTS.worth(expected[block]) for block in left)


def test_a_hot_block_replaces_the_coldest_only_if_both_moves_pay() -> None:
    policy = Placement(COSTS, 2, 1)
    cold, warm, hot = BLOCKS[:3]
    near = {cold, warm}
    plan = policy.plan(hotness_of({cold: 1, warm: 3, hot: 5.8}), near)
    assert (plan.promote, plan.evict) == ((), ())
    plan = policy.plan(hotness_of({cold: 1, warm: 3, hot: 6.2}), near)
    assert (plan.promote, plan.evict) == ((hot,), (cold,))


def test_the_coldest_goes_when_capacity_shrinks() -> None:
    plan = Placement(COSTS, 1, 1).plan(hotness_of({BLOCKS[0]: 9, BLOCKS[1]: 8}), set(BLOCKS[:3]))
    assert plan.evict == (BLOCKS[2], BLOCKS[1])


def test_very_hot_blocks_are_told_apart() -> None:
    hotness = hotness_of({BLOCKS[0]: 300, BLOCKS[1]: 200, BLOCKS[2]: 100})
    coldest = Placement(COSTS, 3, 1).coldest(hotness, BLOCKS[:3])
    assert coldest == [BLOCKS[2], BLOCKS[1], BLOCKS[0]]


@given(
    st.dictionaries(st.sampled_from(BLOCKS), st.lists(st.integers(0, 3), max_size=9)),
    st.integers(1, 4),
    st.floats(0, 1),
    st.integers(0, 40),
    st.sets(st.sampled_from(BLOCKS)),
)
def test_replicas_never_exceed_their_budget(
    readers: dict[BlockId, list[int]],
    copies: int,
    share: float,
    capacity: int,
    growing: set[BlockId],
) -> None:
    extra = Replication(copies, share, 2.0).replicas(readers, 1.0, capacity, growing)
    assert sum(extra.values()) <= share * capacity
    for block, count in extra.items():
        assert 1 <= count < copies
        assert block not in growing
        assert count < len(set(readers[block]))


def test_a_shared_block_gets_a_copy_for_each_target_time() -> None:
    policy = Replication(max_copies=8, budget_share=0.05, target_ns=2.0)
    readers = {BLOCKS[0]: [0, 1, 2, 3, 0], BLOCKS[1]: [0, 1], BLOCKS[2]: [1] * 9}
    assert policy.replicas(readers, 1.0, 100) == {BLOCKS[0]: 2}
    assert policy.replicas(readers, 1.5, 100) == {BLOCKS[0]: 3, BLOCKS[1]: 1}
    assert policy.replicas(readers, 1.5, 60) == {BLOCKS[0]: 3}
    assert policy.replicas(readers, 1.5, 100, growing=[BLOCKS[0]]) == {BLOCKS[1]: 1}


@pytest.mark.parametrize(("copies", "share", "target"), [(0, 0.1, 1), (1, 1.1, 1), (1, 0.1, 0)])
def test_bounds_that_are_none_are_refused(copies: int, share: float, target: float) -> None:
    with pytest.raises(ValueError, match="must"):
        Replication(copies, share, target)


@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 2)), min_size=1, max_size=6),
    st.lists(st.integers(0, 5), max_size=4),
    st.floats(0, 10),
)
def test_a_channel_with_room_and_the_least_cost_is_chosen(
    channels: list[tuple[float, int]], siblings: list[int], hop_ns: float
) -> None:
    load, free = zip(*channels, strict=True)
    chosen = choose_channel(load, free, 5.0, siblings, hop_ns)
    open_channels = [index for index, room in enumerate(free) if room]
    if chosen is None:
        assert not open_channels
        return

    def cost(index: int) -> float:
        after = [ns + 5.0 * (at == index) for at, ns in enumerate(load)]
        return max(after) + hop_ns * sum(at != index for at in siblings)

    assert free[chosen]
    assert cost(chosen) == min(cost(index) for index in open_channels)


def test_a_head_stays_together_until_load_outweighs_the_way() -> None:
    assert choose_channel([10, 0], [1, 1], 5, siblings=[0, 0], hop_ns=3) == 0
    assert choose_channel([10, 0], [1, 1], 5, siblings=[0, 0], hop_ns=2) == 1
    assert choose_channel([10, 0], [1, 0], 5, siblings=[1]) == 0
    assert choose_channel([3, 1, 1], [1, 1, 1], 1) == 1
