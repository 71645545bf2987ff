"""The event model against the AttAcc simulator's cycles (notes: run of its HEAD) and by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.errors import StreamError
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.attacc_stream import attention_stream
from tokenloom.backends.pim.streams.commands import ON, UNITS, Command, CommandStream, Op
from tokenloom.backends.pim.streams.rows import with_rows
from tokenloom.backends.pim.timing.checker import check
from tokenloom.backends.pim.timing.constraints import Compat
from tokenloom.backends.pim.timing.event_model import TimedStream, time_stream

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
ONE_HEAD = {
    ("bank", True): (177, 273, 465, 930, 1890, 3810, 8088),
    ("bank", False): (149, 213, 341, 682, 1394, 2818, 6104),
    ("bank-group", True): (454, 822, 1590, 3142, 6719, 13403, 27239),
    ("bank-group", False): (330, 570, 1082, 2122, 4202, 8837, 18105),
    ("buffer", True): (1088, 2094, 4158, 8765, 17981, 36415, 72801),
}
TWO_HEADS = {
    True: (315, 505, 889, 1855, 3711, 7861, 16297),
    False: (269, 385, 641, 1359, 2719, 5877, 11913),
}


def stack_of(level: str = "bank", power_cap: bool = True) -> PimStack:
    pim = load_machine("attacc-hbm3").pim
    assert pim is not None
    return pim.at(level, power_cap)


def timed(
    stack: PimStack,
    length: int,
    heads: int = 1,
    head_dim: int = 128,
    compat: Compat | None = None,
    heads_per_kv: int = 1,
) -> TimedStream:
    stream = attention_stream(
        stack, heads, length, head_dim, compat=compat, heads_per_kv=heads_per_kv
    )
    return time_stream(with_rows(stream, stack), stack, compat=compat)


def cycles_of(found: TimedStream, *ops: Op) -> list[int]:
    return [command.cycle for command in found.stream if command.op in ops]


def test_the_timeline_of_one_head() -> None:
    found = timed(stack_of(), 512)
    assert cycles_of(found, Op.WR_GB) == list(range(1, 30, 4))
    assert cycles_of(found, Op.MAC_TREE) == [*range(30, 217, 6), *range(262, 449, 6)]
    assert cycles_of(found, Op.MAC_LANES) == [*range(497, 684, 6), *range(729, 916, 6)]
    assert cycles_of(found, Op.ACT) == [1, 243, 475, 710]
    assert cycles_of(found, Op.PRE) == [224, 456, 691]
    assert cycles_of(found, Op.SFM) == [465]
    assert cycles_of(found, Op.MV_GB) == list(range(466, 497, 2))
    assert cycles_of(found, Op.MV_SB)[-8:] == list(range(916, 931, 2))
    assert found.cycles == 930


@pytest.mark.parametrize("power_cap", [True, False])
@pytest.mark.parametrize("at", range(7))
def test_one_head_at_bank_level_equals_the_simulator(at: int, power_cap: bool) -> None:
    stack, reference = stack_of("bank", power_cap), ONE_HEAD["bank", power_cap][at]
    assert timed(stack, LENGTHS[at], compat="attacc").cycles == reference
    ours = timed(stack, LENGTHS[at])
    refreshes = ours.stream.counts().get("REF", 0)
    assert refreshes == (LENGTHS[at] == 4096)
    assert ours.cycles == reference + refreshes * (stack.timing.rp_cycles - 1)


@pytest.mark.parametrize("level", ["bank-group", "buffer"])
@pytest.mark.parametrize("at", range(3, 7))
def test_one_head_at_other_levels_is_close_to_the_simulator(at: int, level: str) -> None:
    for power_cap in (True, False):
        reference = ONE_HEAD.get((level, power_cap), ONE_HEAD[level, True])[at]
        found = timed(stack_of(level, power_cap), LENGTHS[at], compat="attacc").cycles
        assert found == pytest.approx(reference, rel=0.001)


@pytest.mark.parametrize("at", range(7))
def test_two_heads_of_a_channel_overlap_as_in_the_simulator(at: int) -> None:
    for power_cap in (True, False):
        found = timed(stack_of("bank", power_cap), LENGTHS[at], heads=32, compat="attacc").cycles
        assert found == pytest.approx(TWO_HEADS[power_cap][at], rel=0.035)


def test_as_many_heads_as_channels_take_as_long_as_one() -> None:
    stack = stack_of()
    one = timed(stack, 512)
    assert timed(stack, 512, heads=16).cycles == one.cycles
    assert timed(stack, 512, heads=17).cycles == timed(stack, 512, heads=32).cycles == 1855
    assert timed(stack, 512, heads=16).busy_cycles["units"] == 16 * one.busy_cycles["units"]
    assert one.busy_cycles["units"] == 128 * 6


def test_a_refresh_waits_for_the_row_and_tells_what_it_costs() -> None:
    stack = stack_of()
    original = timed(stack, 4096, compat="attacc")
    (refresh,) = cycles_of(original, Op.REF)
    macs = cycles_of(original, Op.MAC_LANES)
    before, after = max(c for c in macs if c < refresh), min(c for c in macs if c > refresh)
    assert (before, refresh, after) == (5083, 5092, 5567)
    ours = timed(stack, 4096)
    assert cycles_of(ours, Op.REF) == [5083 + 8 + 19]
    assert 5083 + 8 + 19 + 456 in cycles_of(ours, Op.ACT)


def test_queries_that_share_a_kv_head_share_its_rows() -> None:
    stack = stack_of()
    shared, alone = (timed(stack, 1024, heads=4, heads_per_kv=g) for g in (4, 1))
    counts = shared.stream.counts()
    assert counts["MAC_TREE"] == alone.stream.counts()["MAC_TREE"] == 4 * 128
    assert counts["ACT"] * 4 == alone.stream.counts()["ACT"]
    assert timed(stack, 1024).cycles < shared.cycles < 4 * timed(stack, 1024).cycles


def test_row_and_column_commands_issue_together_but_no_two_of_a_kind() -> None:
    found = timed(stack_of("buffer"), 256).stream
    rows = [c.cycle for c in found if c.op in (Op.ACT, Op.PRE)]
    columns = [c.cycle for c in found if c.op not in (Op.ACT, Op.PRE, Op.MODE, Op.BARRIER)]
    assert len(set(rows)) == len(rows)
    assert len(set(columns)) == len(columns)
    assert set(rows) & set(columns)


def test_a_long_softmax_is_waited_for() -> None:
    stack = stack_of()
    slow = replace(stack, timing=replace(stack.timing, softmax_per_token_cycles=1.0))
    assert timed(slow, 512).cycles == 930 + 512


def test_reads_and_writes_of_the_bus_take_their_turns() -> None:
    stack = stack_of()
    place = {"channel": 0, "pseudo_channel": 0, "sid": 0, "bank_group": 0, "bank": 0}
    commands = [
        Command(Op.RD, **place, row=3, column=0, address=0),
        Command(Op.RD, **place, row=3, column=1, address=16),
        Command(Op.WR, **place, row=3, column=2, address=0),
        Command(Op.RD, **place, row=4, column=0, address=32),
    ]
    stream = with_rows(CommandStream.of("bus", "attacc-hbm3", commands), stack)
    found = time_stream(stream, stack)
    assert cycles_of(found, Op.ACT) == [1, 20 + 4 + 17 + 6 + 2 + 21 + 19]
    assert cycles_of(found, Op.RD)[:2] == [20, 24]
    assert cycles_of(found, Op.WR) == [24 + 17]
    assert found.cycles == cycles_of(found, Op.RD)[2] + 19 + 2
    assert found.busy_cycles["bus"] == 4 * 2


def test_what_a_refresh_closes_in_the_middle_of_a_row_is_opened_again() -> None:
    stack = stack_of()
    macs = [Command(Op.MAC, channel=0, row=7, column=i % 32, size_bytes=2048) for i in range(2000)]
    commands = [Command(Op.MODE, channel=0, flags=ON), *macs, Command(Op.MODE, channel=0)]
    stream = with_rows(CommandStream.of("long", "attacc-hbm3", commands), stack)
    assert stream.counts()["ACT"] == 1
    found = time_stream(stream, stack)
    assert found.stream.counts()["REF"] == found.cycles // stack.timing.refi_cycles == 2
    assert found.stream.counts()["ACT"] == 3
    assert time_stream(stream, stack, refresh=False).cycles == 22 + 1999 * 6


def test_a_stream_without_rows_is_told_how_to_get_them() -> None:
    stack = stack_of()
    with pytest.raises(StreamError, match=r"command 3 \(WR_GB\)|command \d+ \(MAC_TREE\): no row"):
        time_stream(attention_stream(stack, 1, 64, 128), stack)


def test_a_row_that_does_not_exist_is_named() -> None:
    stack = stack_of()
    stream = CommandStream.of("far", "attacc-hbm3", [Command(Op.MAC, row=stack.pim_rows)])
    with pytest.raises(StreamError, match=f"row is {stack.pim_rows}"):
        with_rows(stream, stack)


def test_an_empty_stream_takes_no_time() -> None:
    stack = stack_of()
    empty = attention_stream(stack, 0, 512, 128)
    assert time_stream(with_rows(empty, stack), stack).cycles == 0
    assert len(attention_stream(stack, 4, 0, 128)) == 0


def test_timing_keeps_the_commands_and_their_order() -> None:
    stack = stack_of("buffer")
    stream = attention_stream(stack, 1, 700, 64)
    found = timed(stack, 700, head_dim=64).stream.records
    kept = found[~np.isin(found["op"], [Op.ACT, Op.PRE, Op.REF])].copy()
    kept["cycle"] = -1
    assert np.array_equal(kept, stream.records)


def test_a_register_that_a_move_fills_is_waited_for() -> None:
    stack = stack_of()
    commands = [
        Command(Op.MODE, 0, flags=ON),
        Command(Op.WR_GB, 0, bank=0, src=0),
        Command(Op.MV_GB, 0, sid=0, bank_group=0, dst=2, flags=UNITS),
        Command(Op.ADD, 0, dst=2),
    ]
    stream = with_rows(CommandStream.of("carry", "", commands), stack)
    found = time_stream(stream, stack).stream
    cycles = {Op(command.op): command.cycle for command in found}
    assert cycles[Op.ADD] > cycles[Op.MV_GB]
    assert check(found, stack) == []
    early = found.records.copy()
    early["cycle"][early["op"] == Op.MV_GB] = cycles[Op.ADD] + 10
    wrong = check(CommandStream("carry", "", early), stack)
    assert any(violation.constraint == "register in use" for violation in wrong)


def test_a_refresh_of_the_stream_is_done_at_once_and_wants_rows_closed() -> None:
    stack = stack_of()
    row = {"pseudo_channel": 0, "sid": 0, "bank_group": 0, "bank": 0}
    opened = Command(Op.ACT, 0, **row)
    closed = [opened, Command(Op.PRE, 0), Command(Op.REF, 0), opened]
    found = time_stream(CommandStream.of("refresh", "", closed), stack, refresh=False).stream
    _, close, refresh, again = (command.cycle for command in found)
    assert refresh == close + stack.timing.rp_cycles
    assert again == refresh + stack.timing.rfc_cycles
    with pytest.raises(StreamError, match=r"REF.*a row is open; close all banks"):
        time_stream(CommandStream.of("refresh", "", [opened, Command(Op.REF, 0)]), stack)
