from __future__ import annotations

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.attacc_stream import attention_stream
from tokenloom.backends.pim.streams.commands import ALL, Command, CommandStream, Op
from tokenloom.backends.pim.streams.rows import with_rows


def stack_of(machine: str = "attacc-hbm3") -> PimStack:
    pim = load_machine(machine).pim
    assert pim is not None
    return pim


def rows_of(commands: list[Command], machine: str = "attacc-hbm3") -> list[str]:
    stream = with_rows(CommandStream.of("test", machine, commands), stack_of(machine))
    found: list[str] = []
    for command in stream:
        scope = ",".join("*" if index == ALL else str(index) for index in command.scope)
        found.append(f"{command.op.name} {scope} {command.row}")
    return found


def test_a_row_opens_before_its_first_use_and_closes_after_its_last() -> None:
    rows = (1, 1, 2, 2)
    assert rows_of([Command(Op.MAC, row=row) for row in rows]) == [
        "ACT *,*,*,* 1",
        "MAC *,*,*,* 1",
        "MAC *,*,*,* 1",
        "PRE *,*,*,* 0",
        "ACT *,*,*,* 2",
        "MAC *,*,*,* 2",
        "MAC *,*,*,* 2",
    ]


def test_a_command_on_one_bank_closes_what_all_banks_had_open() -> None:
    one = Command(Op.RD, 0, 0, 0, 0, 0, row=1)
    assert rows_of([Command(Op.MAC, 0, row=1), one, Command(Op.MAC, 0, row=1)]) == [
        "ACT *,*,*,* 1",
        "MAC *,*,*,* 1",
        "PRE *,*,*,* 0",
        "ACT 0,0,0,0 1",
        "RD 0,0,0,0 1",
        "PRE 0,0,0,0 0",
        "ACT *,*,*,* 1",
        "MAC *,*,*,* 1",
    ]


def test_banks_keep_rows_of_their_own() -> None:
    banks = [Command(Op.MAC, bank=bank, row=bank + row) for row in (1, 1) for bank in (0, 1)]
    found = rows_of(banks)
    assert [text for text in found if not text.startswith("MAC")] == [
        "ACT *,*,*,0 1",
        "ACT *,*,*,1 2",
    ]


def test_one_precharge_closes_the_same_bank_of_all_groups() -> None:
    stack = stack_of().at("buffer")
    counts = with_rows(attention_stream(stack, 1, 512, 128), stack).counts()
    assert counts["ACT"] == 4 * 32  # two rows in each bank for K, and for V
    assert counts["PRE"] == 3 * 4


def test_units_of_several_banks_open_rows_in_all_of_them() -> None:
    commands = [Command(Op.MAC, bank=bank, row=1) for bank in (0, 1)]
    assert rows_of(commands, "hbm2-pim") == [
        "ACT *,*,*,* 1",
        "MAC *,*,*,0 1",
        "MAC *,*,*,1 1",
    ]


def test_channels_have_rows_of_their_own() -> None:
    commands = [Command(Op.MAC, channel, row=row) for row in (1, 2) for channel in (0, 1)]
    stream = with_rows(CommandStream.of("test", "attacc-hbm3", commands), stack_of())
    for channel in (0, 1):
        mine = [command.op for command in stream.of_channel(channel)]
        assert mine == [Op.ACT, Op.MAC, Op.PRE, Op.ACT, Op.MAC]


def test_a_stream_with_rows_is_left_alone() -> None:
    stack = stack_of()
    stream = with_rows(attention_stream(stack, 1, 64, 128), stack)
    assert with_rows(stream, stack) is stream
