from __future__ import annotations

from dataclasses import replace

import pytest

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.errors import StreamError
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.attacc_stream import attention_stream
from tokenloom.backends.pim.streams.commands import LANES, ON, START, Command, CommandStream, Op
from tokenloom.backends.pim.streams.rows import with_rows
from tokenloom.backends.pim.timing.checker import check
from tokenloom.backends.pim.timing.event_model import time_stream

BANK = {"channel": 0, "pseudo_channel": 0, "sid": 0, "bank_group": 0, "bank": 0}
NEXT_BANK = {**BANK, "bank": 1}
OTHER_GROUP = {**BANK, "bank_group": 1}
OTHER_SID = {**BANK, "sid": 1}


def stack_of(level: str = "bank") -> PimStack:
    pim = load_machine("attacc-hbm3").pim
    assert pim is not None
    return pim.at(level)


def broken(*commands: Command, refresh: bool = False) -> list[tuple[str, int, int]]:
    """Return constraint, required and found of what the commands break."""
    stream = CommandStream.of("test", "attacc-hbm3", commands)
    found = check(stream, stack_of(), refresh)
    return [(violation.constraint, violation.required, violation.found) for violation in found]


def on(*commands: Command) -> list[Command]:
    """The commands with units on, 22 cycles before the first that computes, all rows open."""
    return [Command(Op.MODE, 0, flags=ON, cycle=0), Command(Op.ACT, 0, cycle=1), *commands]


@pytest.mark.parametrize("level", ["bank", "bank-group", "buffer"])
def test_no_command_of_the_event_model_can_come_earlier(level: str) -> None:
    """Each cycle that the timer gives is bound by a constraint that the checker knows."""
    stack = stack_of(level)
    length = {"bank": 280, "bank-group": 100, "buffer": 20}[level]
    stream = with_rows(attention_stream(stack, 1, length, 80), stack)
    timed = time_stream(stream, stack).stream
    assert check(timed, stack) == []
    for index, command in enumerate(timed):
        if command.op in (Op.MODE, Op.BARRIER):
            continue
        cycles = timed.records["cycle"].copy()
        cycles[index] -= 1
        assert check(timed.timed(cycles), stack), str(command)


@pytest.mark.parametrize(
    ("second", "rule", "required"),
    [
        (Command(Op.RD, **BANK), "tRCD", 19),
        (Command(Op.WR, **BANK), "tRCD of writes", 19),
        (Command(Op.PRE, **BANK), "tRAS", 45),
        (Command(Op.ACT, **NEXT_BANK), "tRRD_L", 4),
        (Command(Op.ACT, **OTHER_GROUP), "tRRD_S", 2),
        (Command(Op.ACT, **OTHER_SID), "row bus", 2),
    ],
)
def test_what_follows_an_activate(second: Command, rule: str, required: int) -> None:
    act = Command(Op.ACT, **BANK, cycle=100)
    for early in (0, 1):
        later = replace(second, cycle=100 + required - early)
        names = [name for name, _, _ in broken(act, later)]
        assert (rule in names) == bool(early)


def test_an_activate_and_a_precharge_of_one_bank() -> None:
    act, pre = Command(Op.ACT, **BANK, cycle=100), Command(Op.PRE, **BANK, cycle=145)
    assert broken(act, pre, replace(act, cycle=164)) == []
    assert broken(act, pre, replace(act, cycle=163)) == [("tRP", 19, 18)]
    slow = replace(stack_of(), timing=replace(stack_of().timing, rc_cycles=70))
    stream = CommandStream.of("test", "", [act, pre, replace(act, cycle=169)])
    assert [v.constraint for v in check(stream, slow, refresh=False)] == ["tRC"]


def test_five_activates_of_single_banks_in_a_window() -> None:
    acts = [
        Command(Op.ACT, 0, 0, 0, index % 4, index // 4, cycle=1 + 4 * index) for index in range(4)
    ]
    fifth = Command(Op.ACT, 0, 0, 0, 0, 1, cycle=40)
    assert broken(*acts, fifth) == []
    assert broken(*acts, replace(fifth, cycle=39)) == [("tFAW", 39, 38)]


def test_columns_of_a_bank_of_a_group_of_a_sid() -> None:
    first = Command(Op.RD, **BANK, cycle=100)
    acts = [
        Command(Op.ACT, **scope, cycle=cycle)
        for scope, cycle in ((BANK, 1), (NEXT_BANK, 5), (OTHER_GROUP, 9), (OTHER_SID, 11))
    ]
    for scope, rule, cycles in (
        (BANK, "tCCD_L", 4),
        (NEXT_BANK, "tCCD_L", 4),
        (OTHER_GROUP, "tCCD_S", 2),
        (OTHER_SID, "tCCD_R", 2),
    ):
        later = Command(Op.RD, **scope, cycle=100 + cycles)
        assert broken(*acts, first, later) == []
        early = replace(later, cycle=100 + cycles - 1)
        assert (rule, cycles, cycles - 1) in broken(*acts, first, early)


def test_reading_after_writing_and_closing_after_both() -> None:
    act = Command(Op.ACT, **BANK, cycle=1)
    read, write = Command(Op.RD, **BANK, cycle=60), Command(Op.WR, **BANK, cycle=60)
    pre = Command(Op.PRE, **BANK)
    assert broken(act, read, replace(pre, cycle=67)) == [("tRTP", 8, 7)]
    assert broken(act, write, replace(pre, cycle=60 + 28)) == [("tWR", 29, 28)]
    late = broken(act, write, replace(read, cycle=60 + 18))
    assert late == [("tWTR_L", 19, 18)]
    early = replace(write, address=99, cycle=60 + 16)
    assert broken(act, read, early) == [("tRTW", 17, 16)]


def test_a_refresh_needs_closed_rows_and_the_banks_for_a_while() -> None:
    act, pre = Command(Op.ACT, **BANK, cycle=1), Command(Op.PRE, **BANK, cycle=46)
    ref = Command(Op.REF, 0, cycle=65)
    again = Command(Op.ACT, **BANK, row=2, cycle=65 + 456)
    assert broken(act, pre, ref, again) == []
    assert broken(act, pre, replace(ref, cycle=64)) == [("tRP", 19, 18)]
    assert broken(act, pre, ref, replace(again, cycle=520)) == [("tRFC", 456, 455)]
    assert broken(act, ref) == [("REF with a row open", -1, 0)]


def test_more_than_eight_refreshes_may_not_be_owed() -> None:
    late = [Command(Op.ACT, **BANK, cycle=9 * 5070)]
    assert broken(*late, refresh=True) == [("refreshes owed", 8, 9)]
    assert broken(replace(late[0], cycle=9 * 5070 - 1), refresh=True) == []


def test_units_need_to_be_on_and_rows_open() -> None:
    mac = Command(Op.MAC, 0, cycle=40)
    assert broken(*on(mac)) == []
    assert broken(*on(replace(mac, row=3))) == [("row open", 3, 0)]
    assert broken(*on()[1:], mac) == [("units on", 1, 0)]
    assert ("after MODE", 22, 21) in broken(*on(replace(mac, cycle=21)))
    assert broken(*on()[:1], Command(Op.ACT, 0, row=1, cycle=1), mac) == [("row open", 0, 1)]
    off = Command(Op.MODE, 0, cycle=39)
    assert broken(*on(off, mac)) == [("units on", 1, 0)]
    twice = [Command(Op.ACT, 0, row=row, cycle=1 + 70 * row) for row in (0, 1)]
    assert broken(*twice) == [("ACT with a row open", -1, 0)]


def test_units_wait_for_their_interval_and_moves_for_theirs() -> None:
    mac = Command(Op.MAC, 0, cycle=40)
    assert broken(*on(mac, replace(mac, cycle=45))) == [("unit interval", 6, 5)]
    write = Command(Op.WR_GB, 0, cycle=40)
    assert broken(*on(write, replace(write, src=1, cycle=43))) == [("operand write interval", 4, 3)]
    out = Command(Op.MV_SB, 0, flags=LANES, cycle=40)
    assert broken(*on(out, replace(out, dst=1, address=99, cycle=41))) == [("move interval", 2, 1)]
    assert ("column bus", 1, 0) in broken(*on(mac, out))


def test_commands_wait_for_their_data() -> None:
    """Cycles of two commands in program order, what binds them, and how far apart they must be."""
    mac, tree = Command(Op.MAC, 0, src=3, dst=2), Command(Op.MAC_TREE, 0, src=3, dst=2, flags=START)
    write, probability = Command(Op.WR_GB, 0, src=3), Command(Op.MV_GB, 0, src=5, address=64)
    out = Command(Op.MV_SB, 0, dst=2, address=64)
    softmax, barrier = Command(Op.SFM, 0, address=64, dst=9, size=16), Command(Op.BARRIER, 0)
    for first, second, rule, cycles in (
        ([write], mac, "operand", 1),
        ([mac], write, "operand in use", 1),
        ([tree], out, "register", 3),
        ([out], tree, "register in use", 1),
        ([out], softmax, "memory", 2),
        ([softmax], probability, "memory", 1),
        ([write, barrier], replace(mac, src=0), "BARRIER", 1),
    ):
        timed = [replace(command, cycle=100) for command in first]
        for early in (0, 1):
            later = replace(second, cycle=100 + cycles - early)
            names = [name for name, _, _ in broken(*on(*timed, later))]
            assert (rule in names) == bool(early), (rule, early)


def test_a_violation_names_both_commands_and_the_cycles() -> None:
    act, mac = Command(Op.ACT, 0, row=5, cycle=100), Command(Op.MAC, 0, row=5, column=7, cycle=110)
    on_first = Command(Op.MODE, 0, flags=ON, cycle=0)
    stream = CommandStream.of("test", "attacc-hbm3", [on_first, act, mac])
    (violation,) = check(stream, stack_of(), refresh=False)
    assert str(violation) == (
        "MAC at 110 (**** row 5 column 7) after ACT at 100 (****): tRCD requires 19, found 10"
    )


def test_registers_and_operands_beyond_the_units_are_refused() -> None:
    stack = stack_of()
    for field, value in (("dst", stack.unit.registers), ("src", stack.unit.operand_entries)):
        stream = CommandStream.of("test", "", [Command(Op.MAC, 0, **{field: value}, cycle=30)])
        with pytest.raises(StreamError, match=f"{field} is {value}"):
            check(stream, stack)


def test_each_channel_is_checked() -> None:
    early = [Command(Op.RD, channel, 0, 0, 0, 0, cycle=5) for channel in (3, 4)]
    acts = [Command(Op.ACT, channel, 0, 0, 0, 0, cycle=1) for channel in (3, 4)]
    stream = CommandStream.of("test", "", [*acts, early[0], replace(early[1], cycle=6)])
    found = [violation.later.channel for violation in check(stream, stack_of())]
    assert found == [3, 4]
