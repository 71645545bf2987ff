from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenloom.backends.pim.errors import StreamError
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import (
    LANES,
    ON,
    START,
    UNITS,
    Command,
    CommandStream,
    Op,
)
from tokenloom.backends.pim.streams.interpreter import interpret
from tokenloom.backends.pim.streams.stack_state import Arithmetic, StackState
from tokenloom.bench.golden_gemv import GoldenGemv, accumulate, checksum, golden_gemv

Half = NDArray[np.float16]


def run(state: StackState, *commands: Command) -> StackState:
    interpret(CommandStream.of("test", "test", commands), state)
    return state


def small(stack: PimStack, **sizes: int) -> PimStack:
    """Two of everything, four rows, and of the two SIDs one computes."""
    levels = ("channels", "pseudo_channels", "sids", "bank_groups", "banks")
    shape = {**dict.fromkeys(levels, 2), "stacks": 1, "pim_sids": 1, "rows": 4, "pim_rows": 4}
    return replace(stack, **{**shape, **sizes})


def filled(stack: PimStack, seed: int = 0, arithmetic: Arithmetic = "fp16") -> StackState:
    """A state whose banks, operands, registers and base die hold random numbers."""
    state = StackState(stack, arithmetic, base_elements=1024)
    random = np.random.default_rng(seed)
    for array in (state.banks.lanes, state.operands, state.registers, state.base):
        array[...] = random.standard_normal(array.shape) * (30 if array.dtype.kind == "i" else 1)
    return state


# --- GEMV of the golden vectors, laid out as one unit for two banks wants it ---------------------

REGISTERS, COLUMNS_PER_TILE = 8, 8


def gemv_stack(stack: PimStack) -> PimStack:
    """64 pseudo channels of 8 units, each between an even and an odd bank: 4096 accumulators."""
    unit = replace(stack.unit, banks_per_unit=2, registers=8, operand_entries=8)
    return replace(
        stack,
        stacks=4,
        channels=8,
        pseudo_channels=2,
        sids=1,
        pim_sids=1,
        bank_groups=4,
        banks=4,
        rows=8,
        pim_rows=8,
        unit=unit,
    )


def gemv_stream(columns: int = 32) -> CommandStream:
    """Even tiles of 128 inputs, then odd ones: 8 operands, then 64 columns, output by output."""
    commands: list[Command] = []
    for parity in (0, 1):
        for tile in range(4):
            first = (2 * tile + parity) * COLUMNS_PER_TILE
            commands += [
                Command(Op.WR_GB, src=entry, address=(first + entry) * 16) for entry in range(8)
            ]
            for place in range(64):
                row, column = divmod(tile * 64 + place, columns)
                first_of_all = START if (parity, tile, place // REGISTERS) == (0, 0, 0) else 0
                commands.append(
                    Command(
                        Op.MAC,
                        bank=parity,
                        row=row,
                        column=column,
                        dst=place % REGISTERS,
                        src=place // REGISTERS,
                        flags=first_of_all,
                    )
                )
    return CommandStream.of("gemv", "test", commands)


def gemv_lanes(golden: GoldenGemv, state: StackState) -> Half:
    """Lay out the weights, run the stream, and return the accumulators [4096, 16]."""
    # Output: channel, pseudo channel, bank group, unit, register; column: tile, parity, input.
    weights = golden.columns.reshape(32, 2, 4, 2, REGISTERS, 4, 2, COLUMNS_PER_TILE, 16)
    laid_out = weights.transpose(0, 1, 2, 3, 6, 5, 7, 4, 8)
    state.columns[:, :, 0] = laid_out.reshape(32, 2, 4, 4, 8, 32, 16)
    state.base[: len(golden.inputs)] = golden.inputs
    state.registers[...] = 7  # the first command of each starts anew
    interpret(gemv_stream(), state)
    return state.registers.reshape(-1, 16)


def test_gemv_has_the_simulators_lanes_to_the_last_bit(stack: PimStack) -> None:
    lanes = gemv_lanes(golden_gemv(), StackState(gemv_stack(stack), base_elements=1024))
    assert checksum(lanes) == "3b439805b7266d30"


def test_a_unit_that_rounds_once_fails_the_gemv(stack: PimStack) -> None:
    golden = golden_gemv()
    lanes = gemv_lanes(golden, StackState(gemv_stack(stack), "fused", base_elements=1024))
    assert 0.29 < np.mean(lanes == golden.lanes) < 0.31
    assert np.array_equal(lanes, accumulate(golden.weights, golden.inputs, fused=True))


def test_sums_in_float32_are_nearer_to_the_exact_product(stack: PimStack) -> None:
    golden = golden_gemv()
    lanes = gemv_lanes(golden, StackState(gemv_stack(stack), "float32", base_elements=1024))
    exact = golden.weights.astype(np.float64) @ golden.inputs.astype(np.float64)
    assert np.abs(lanes.sum(axis=1) - exact).max() < 1e-4
    assert np.abs(golden.sums - exact).max() > 0.1


# --- One command at a time, against the same thing said unit by unit -----------------------------


def units_of(state: StackState) -> Iterable[tuple[int, ...]]:
    return np.ndindex(state.registers.shape[:5])


def mac_tree(column: Half, operand: Half) -> np.float16:
    products = [np.float16(a * b) for a, b in zip(column, operand, strict=True)]
    while len(products) > 1:
        half = len(products) // 2
        products = [products[i] + products[i + half] for i in range(half)]
    return products[0]


def expected(command: Command, before: Half, column: Half, operands: Half) -> Half:
    """What a register becomes, lane by lane with numpy's FP16 scalars."""
    operand, start = operands[command.src], bool(command.flags & START)
    after = before.copy()
    for lane in range(16):
        x, old = column[lane], np.float16(0) if start else before[lane]
        match command.op:
            case Op.MAC_TREE:
                if lane == command.lane:
                    after[lane] = old + mac_tree(column, operand)
            case Op.MAC_LANES:
                after[lane] = old + x * operand[command.lane]
            case Op.MAC:
                after[lane] = old + x * operand[lane]
            case Op.ADD:
                after[lane] = before[lane] + x
            case Op.MUL:
                after[lane] = before[lane] * x
            case Op.RELU:
                after[lane] = x if x > 0 else 0
            case _:
                after[lane] = x
    return after


@pytest.mark.parametrize("flags", [0, START])
@pytest.mark.parametrize(
    "op", [Op.MAC_TREE, Op.MAC_LANES, Op.MAC, Op.ADD, Op.MUL, Op.RELU, Op.LOAD]
)
def test_a_unit_command_does_the_same_in_every_unit_it_selects(
    stack: PimStack, op: Op, flags: int
) -> None:
    state = filled(small(stack))
    before = state.registers.copy()
    command = Command(
        op, channel=1, bank_group=1, row=2, column=3, dst=4, src=5, lane=6, flags=flags
    )
    run(state, command)
    for unit in units_of(state):
        wanted = before[unit].copy()
        if unit[0] == 1 and unit[3] == 1:
            column = state.columns[unit][2, 3]
            wanted[4] = expected(command, before[unit][4], column, state.operands[unit])
        assert np.array_equal(state.registers[unit], wanted)


def test_relu_clears_minus_zero(stack: PimStack) -> None:
    state = StackState(small(stack), base_elements=16)
    state.columns[..., 0, 0, :] = np.float16(-0.0)
    run(state, Command(Op.RELU))
    assert not np.signbit(state.registers[..., 0, :]).any()


def test_store_writes_only_the_banks_it_selects(stack: PimStack) -> None:
    state = filled(small(stack))
    before = state.columns.copy()
    run(state, Command(Op.STORE, pseudo_channel=1, bank=1, row=1, column=2, dst=3))
    changed = before.copy()
    changed[:, 1, :1, :, 1, 1, 2] = state.registers[:, 1, :, :, 1, 3]
    assert np.array_equal(state.columns, changed)
    assert not np.array_equal(before, changed)


def test_two_banks_of_a_unit_share_its_registers(stack: PimStack) -> None:
    one = small(stack, banks=4)
    shared = replace(one, unit=replace(stack.unit, banks_per_unit=2))
    state = filled(shared)
    before = state.registers[..., 0, :].copy()
    run(state, Command(Op.ADD, bank=0), Command(Op.ADD, bank=1))
    even, odd = state.columns[:, :, :1, :, 0::2, 0, 0], state.columns[:, :, :1, :, 1::2, 0, 0]
    assert np.array_equal(state.registers[..., 0, :], before + even + odd)
    with pytest.raises(StreamError, match=r"bank is ALL; the banks of a unit.* are 0 to 1$"):
        run(state, Command(Op.ADD))


def test_operands_come_from_the_base_die_one_for_all_or_by_slot(stack: PimStack) -> None:
    state = filled(small(stack, pim_sids=2))
    memory = state.base.astype(np.float16)
    run(state, Command(Op.WR_GB, bank=1, src=2, address=40))
    assert (state.operands[:, :, :, :, 1, 2] == memory[40:56]).all()
    assert not (state.operands[:, :, :, :, 0, 2] == memory[40:56]).any()
    run(state, Command(Op.MV_GB, channel=0, src=3, address=100))
    for pseudo_channel, sid, group, bank in np.ndindex(2, 2, 2, 2):
        slot = (pseudo_channel * 2 + sid) * 2 + group
        wanted = memory[100 + slot : 100 + 16 * 8 : 8]
        assert np.array_equal(state.operands[0, pseudo_channel, sid, group, bank, 3], wanted)


def test_sums_over_banks_replace_elements_by_slot(stack: PimStack) -> None:
    state = filled(small(stack, pim_sids=2))
    before = state.base.copy()
    run(state, Command(Op.MV_SB, channel=1, sid=1, dst=2, address=8))
    wanted = before.copy()
    for pseudo_channel, group in np.ndindex(2, 2):
        slot = (pseudo_channel * 2 + 1) * 2 + group
        units = state.registers[1, pseudo_channel, 1, group, :, 2].astype(np.float32)
        wanted[8 + slot : 8 + 16 * 8 : 8] = units[0] + units[1]
    assert np.array_equal(state.base, wanted)


def test_sums_over_slots_go_on_from_what_is_there(stack: PimStack) -> None:
    state = filled(small(stack, pim_sids=2))
    parts = [
        Command(Op.MV_SB, channel=0, sid=sid, bank=1, dst=2, address=64, flags=LANES | start)
        for sid, start in ((0, START), (1, 0))
    ]
    run(state, *parts)
    total = np.zeros(16, np.float32)
    for sid, pseudo_channel, group in np.ndindex(2, 2, 2):
        total += state.registers[0, pseudo_channel, sid, group, 1, 2]
    assert np.array_equal(state.base[80:96], total)


def test_columns_cross_the_external_bus(stack: PimStack) -> None:
    state = filled(small(stack))
    place = {"channel": 1, "pseudo_channel": 0, "sid": 0, "bank_group": 1, "bank": 0, "row": 3}
    data = state.base[16:32].astype(np.float16)
    run(state, Command(Op.WR, column=5, address=16, **place))
    assert np.array_equal(state.columns[1, 0, 0, 1, 0, 3, 5], data)
    run(state, Command(Op.RD, column=5, address=512, **place))
    assert np.array_equal(state.base[512:528], data.astype(np.float32))


def test_some_lanes_of_a_register_move_alone(stack: PimStack) -> None:
    whole, part = filled(small(stack)), filled(small(stack))
    before = whole.base.copy()
    run(whole, Command(Op.MV_SB, channel=0, dst=2))
    run(part, Command(Op.MV_SB, channel=0, dst=2, lane=3, size=5))
    moved = slice(3 * whole.slots, 8 * whole.slots)
    assert np.array_equal(part.base[moved], whole.base[moved])
    part.base[moved] = before[moved]
    assert np.array_equal(part.base, before)


def test_registers_move_to_another_channel_as_they_are(stack: PimStack) -> None:
    state = filled(small(stack, pim_sids=2))
    before = state.registers.copy()
    run(
        state,
        Command(Op.MV_SB, channel=0, sid=1, bank=1, dst=3, address=64, flags=UNITS),
        Command(Op.MV_GB, channel=1, sid=1, bank=1, dst=4, address=64, flags=UNITS),
    )
    wanted = before.copy()
    wanted[1, :, 1, :, 1, 4] = before[0, :, 1, :, 1, 3]
    assert np.array_equal(state.registers, wanted)
    units = before[0, :, 1, :, 1, 3].astype(np.float32)
    assert np.array_equal(state.base[64:128], units.reshape(-1))


def test_softmax_leaves_weights_their_sum_and_the_largest_score(stack: PimStack) -> None:
    state = filled(small(stack))
    scores = state.base[100:137].astype(np.float64)
    run(state, Command(Op.SFM, address=100, size=37, dst=8))
    weights = np.exp(scores - scores.max())
    assert np.array_equal(state.base[100:137], state.base[100:137].astype(np.float16))
    np.testing.assert_allclose(state.base[100:137], weights, rtol=1e-3)
    assert not state.base[137:148].any()
    assert state.base[148]
    assert state.base[8] == np.float32(scores.max())
    np.testing.assert_allclose(state.base[9], state.base[100:137].sum(), rtol=1e-6)


def test_int8_takes_32_lanes_and_sums_exactly(stack: PimStack) -> None:
    state = filled(small(stack), arithmetic="int8")
    state.columns[...] = np.random.default_rng(1).integers(-128, 128, state.columns.shape)
    run(state, Command(Op.MAC, src=1, dst=0, flags=START), Command(Op.MAC_TREE, src=1, dst=1))
    column = state.columns[:, :, :1, :, :, 0, 0].astype(np.int64)
    products = column * state.operands[..., 1, :]
    assert products.shape[-1] == 32
    assert np.array_equal(state.registers[..., 0, :], products)
    state.base[:32] = np.linspace(-300, 300, 32)
    run(state, Command(Op.WR_GB, src=0))
    assert state.operands[..., 0, :].min() == -128
    assert state.operands[..., 0, :].max() == 127


def test_an_overflow_is_an_infinity(stack: PimStack) -> None:
    state = StackState(small(stack), base_elements=16)
    state.columns[..., 0, 0, :] = np.float16(60000)
    run(state, Command(Op.ADD), Command(Op.ADD))
    assert np.isposinf(state.registers[..., 0, :].astype(np.float32)).all()


# --- What a stream must not do -------------------------------------------------------------------

ERRORS: dict[str, tuple[list[Command], str]] = {
    "row": ([Command(Op.MAC, row=4)], r"command 0 \(MAC\): row is 4; rows .*are 0 to 3$"),
    "register": ([Command(Op.LOAD, dst=99)], r"dst is 99; registers of a unit are 0 to 15$"),
    "operand": ([Command(Op.WR_GB, src=64)], r"src is 64; operand entries of a unit are 0 to 63$"),
    "dense SID": ([Command(Op.MAC, sid=1)], r"sid is 1; SIDs that compute are 0 to 0 or ALL$"),
    "channel": ([Command(Op.REF, channel=-2)], r"channel is -2; channels are 0 to 1 or ALL$"),
    "lane": ([Command(Op.MAC_LANES, lane=16)], r"lane is 16; lanes of an operand are 0 to 15$"),
    "flags": ([Command(Op.MODE, flags=16)], r"flags is 16; sums of flags are 0 to 15$"),
    "closed row": (
        [Command(Op.ACT, row=1), Command(Op.MAC, row=2)],
        r"command 1 \(MAC\): row 2 is closed, row 1 is open; activate it first$",
    ),
    "no row": (
        [Command(Op.ACT, bank=0), Command(Op.LOAD, row=0)],
        r"row 0 is closed, no row is open; activate it first$",
    ),
    "activated twice": (
        [Command(Op.ACT), Command(Op.ACT, row=1)],
        r"row 0 is open; precharge before activating$",
    ),
    "refreshed open": ([Command(Op.ACT), Command(Op.REF)], r"precharge before refreshing$"),
    "units off": (
        [Command(Op.MODE, channel=0, flags=ON), Command(Op.LOAD)],
        r"command 1 \(LOAD\): units are off; a MODE command with \+on turns them on$",
    ),
    "end of memory": (
        [Command(Op.WR_GB, address=1009)],
        r"elements 1009 to 1024 of the base die's memory, which has 1024$",
    ),
    "many channels": ([Command(Op.MV_SB)], r"would go to one place; name the channel$"),
    "many banks": ([Command(Op.RD, channel=0)], r"one bank is read at a time; name channel"),
    "lanes of a move": (
        [Command(Op.MV_SB, channel=0, lane=9, size=8)],
        r"lanes up to 16 of a register, which has 16$",
    ),
    "dense column": (
        [Command(Op.RD, channel=0, sid=1)],
        r"SID 1, row 0: only banks of the SIDs that compute hold values here, 1 SIDs of 4 rows$",
    ),
    "empty softmax": ([Command(Op.SFM)], r"a softmax over no elements; size must be positive$"),
    "rotation": ([Command(Op.ROT)], r"its angles are not in the stream; rotate before it runs$"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_wrong_command_is_named_with_its_cause(stack: PimStack, case: str) -> None:
    commands, message = ERRORS[case]
    with pytest.raises(StreamError, match=message):
        run(StackState(small(stack), base_elements=1024), *commands)


def test_rows_opened_and_closed_in_order_are_fine(stack: PimStack) -> None:
    state = filled(small(stack))
    wanted = state.columns[:, :, :1, :, :, 2, 1].copy()
    steps: list[Any] = [
        Command(Op.MODE, flags=ON),
        Command(Op.ACT, row=1),
        Command(Op.LOAD, row=1),
        Command(Op.PRE),
        Command(Op.REF),
        Command(Op.ACT, row=2),
        Command(Op.LOAD, row=2, column=1),
        Command(Op.PRE),
        Command(Op.MODE),
    ]
    run(state, *steps)
    assert np.array_equal(state.registers[..., 0, :], wanted)
    assert not state.units_on.any()
