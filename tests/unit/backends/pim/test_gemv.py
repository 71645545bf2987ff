from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenloom.backends.device import DeviceError
from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.banks import BankArrays
from tokenloom.backends.pim.operations.gemv import Gemv, GemvResult, gemv
from tokenloom.backends.pim.operations.gemv_layout import GemvSchedule
from tokenloom.backends.pim.operations.program import banks_for
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import START, Op
from tokenloom.backends.pim.streams.interpreter import interpret
from tokenloom.backends.pim.streams.stack_state import Arithmetic, StackState
from tokenloom.bench.golden_gemv import accumulate, checksum, golden_gemv

Values = NDArray[Any]


def machine_stack(name: str) -> PimStack:
    pim = load_machine(name).pim
    assert pim is not None
    return pim


def interpreted(loaded: Gemv, vector: Values) -> Values:
    """The accumulators that the plain interpreter makes of the same stream."""
    rows = loaded.banks.geometry.size("row")
    stack = replace(loaded.layout.stack, rows=rows, pim_rows=rows)
    state = StackState(stack, loaded.arithmetic, base_elements=1 << 18, banks=loaded.banks)
    inputs = loaded.layout.chunked(vector)
    state.base[: inputs.size] = inputs.reshape(-1)
    if loaded.arithmetic == "fp16":
        loaded.results[...] = 0
    interpret(loaded.stream(), state)
    if loaded.arithmetic == "fp16":
        return loaded.lanes_of(loaded.results)
    groups = loaded.layout.output_tiles * loaded.layout.registers
    shape = (groups, *loaded.layout.units, loaded.layout.lanes)
    moved = state.base[inputs.size : inputs.size + int(np.prod(shape))].reshape(shape)
    return loaded.lanes_of(moved)


def random_product(
    outputs: int, inputs: int, arithmetic: Arithmetic, seed: int = 0
) -> tuple[Values, Values]:
    random = np.random.default_rng(seed)
    if arithmetic == "int8":
        weights = random.integers(-128, 128, (outputs, inputs), dtype=np.int8)
        return weights, random.integers(-128, 128, inputs).astype(np.float32)
    weights = random.standard_normal((outputs, inputs)).astype(np.float16)
    return weights, random.standard_normal(inputs).astype(np.float16)


def test_the_golden_gemv_is_exact_to_the_last_bit_of_every_lane():
    golden = golden_gemv()
    result = gemv(machine_stack("hbm2-pim"), golden.weights, golden.inputs)
    assert checksum(result.lanes) == "3b439805b7266d30"
    assert checksum(result.sums) == "d2375ab2a237b3ec"
    assert result.stream.counts() == {"MODE": 2, "WR_GB": 64, "MAC": 512, "STORE": 8}


def test_units_that_round_once_would_fail_the_golden_gemv():
    golden = golden_gemv()
    once = accumulate(golden.weights, golden.inputs, fused=True)
    result = gemv(machine_stack("hbm2-pim"), golden.weights, golden.inputs)
    assert 0.2 < np.mean(once == result.lanes) < 0.4


def test_even_banks_are_computed_before_odd_ones():
    golden = golden_gemv()
    stream = gemv(machine_stack("hbm2-pim"), golden.weights, golden.inputs).stream
    banks = [command.bank for command in stream if command.op is Op.MAC]
    assert banks == [0] * 256 + [1] * 256


@pytest.mark.parametrize("machine", ["attacc-hbm3", "this-host-pim", "hbm4-uniform"])
def test_other_stacks_add_the_columns_in_order(machine: str):
    weights, vector = random_product(100, 333, "fp16")
    result = gemv(machine_stack(machine), weights, vector)
    padded = np.zeros((100, 336), np.float16)
    padded[:, :333] = weights
    lanes = np.zeros((100, 16), np.float16)
    for column in range(21):
        part = slice(column * 16, column * 16 + 16)
        lanes = lanes + padded[:, part] * np.pad(vector, (0, 3))[part]
    assert np.array_equal(result.lanes, lanes)


def test_float32_accumulators_round_sums_to_float32_only():
    weights, vector = random_product(70, 100, "float32")
    result = gemv(machine_stack("this-host-pim"), weights, vector, arithmetic="float32")
    exact = weights.astype(np.float64) @ vector.astype(np.float64)
    assert result.lanes.dtype == np.float32
    assert np.allclose(result.sums, exact, rtol=1e-5, atol=1e-5)
    half = gemv(machine_stack("this-host-pim"), weights, vector)
    assert np.abs(half.sums - exact).max() > 10 * np.abs(result.sums - exact).max()


def test_int8_is_exact():
    weights, vector = random_product(70, 100, "int8")
    result = gemv(machine_stack("this-host-pim"), weights, vector, arithmetic="int8")
    assert result.lanes.dtype == np.int32
    assert result.lanes.shape == (70, 32)
    exact = weights.astype(np.int64) @ vector.astype(np.int64)
    assert np.array_equal(result.sums, exact)


SCHEDULES = [
    GemvSchedule(8, 8),
    GemvSchedule(8, 8, "bank-group"),
    GemvSchedule(8, 8, "buffer"),
    GemvSchedule(3, 5, by_channel=True),
    GemvSchedule(8, 4, "bank-group", operand_inner=True),
    GemvSchedule(4, 2, "buffer", by_channel=True, banks_inner=True),
]


@pytest.mark.parametrize("arithmetic", ["fp16", "float32", "int8"])
def test_schedules_change_the_commands_and_not_a_bit_of_the_values(
    stack: PimStack, arithmetic: Arithmetic
):
    weights, vector = random_product(1030, 300, arithmetic)
    results: list[GemvResult] = []
    for schedule in SCHEDULES:
        loaded = Gemv.load(stack, weights, arithmetic=arithmetic, schedule=schedule)
        results.append(loaded.run(vector))
        assert np.array_equal(interpreted(loaded, vector), results[-1].lanes)
    first = results[0]
    assert all(np.array_equal(first.lanes, other.lanes) for other in results[1:])
    streams = {result.stream.records.tobytes() for result in results}
    assert len(streams) == len(SCHEDULES)


def test_levels_name_the_units_they_reach(stack: PimStack):
    weights, vector = random_product(64, 32, "fp16")
    scopes = {
        level: {
            command.scope
            for command in gemv(stack, weights, vector, schedule=GemvSchedule(2, 1, level)).stream
            if command.op is Op.MAC
        }
        for level in ("bank", "bank-group", "buffer")
    }
    assert scopes["bank"] == {(-1, -1, -1, -1)}
    assert scopes["bank-group"] == {(-1, -1, -1, bank) for bank in range(4)}
    assert len(scopes["buffer"]) == stack.pim_sids * stack.bank_groups * stack.banks
    assert {scope[0] for scope in scopes["buffer"]} == {-1}


def test_an_accumulator_starts_once(stack: PimStack):
    weights, vector = random_product(2048, 300, "fp16")
    stream = gemv(stack, weights, vector, schedule=GemvSchedule(4, 2)).stream
    macs = [command for command in stream if command.op is Op.MAC]
    stores = [command for command in stream if command.op is Op.STORE]
    assert sum(command.flags & START for command in macs) == len(stores)


def test_weights_may_lie_anywhere_in_the_banks(stack: PimStack):
    weights, vector = random_product(50, 40, "fp16")
    first = Gemv.load(stack, weights)
    second = Gemv.load(stack, weights[::-1].copy(), banks=_larger(first))
    moved = Gemv.load(stack, weights, banks=second.banks)
    assert moved.first_row > 0
    assert np.array_equal(moved.run(vector).lanes, first.run(vector).lanes)
    rows = {command.row for command in moved.stream() if command.op in (Op.MAC, Op.STORE)}
    assert min(rows) == moved.first_row


def _larger(loaded: Gemv) -> BankArrays:
    return banks_for(loaded.layout.stack, 8)


def test_a_product_that_does_not_fit_says_how_many_rows_it_takes(stack: PimStack):
    with pytest.raises(DeviceError, match=r"takes \d+ rows in each bank that computes; .* are 16"):
        gemv(stack, np.zeros((30000, 2000), np.float16), np.zeros(2000, np.float16))


def test_a_full_stack_says_what_is_free(stack: PimStack):
    loaded = Gemv.load(stack, np.zeros((50, 40), np.float16))
    with pytest.raises(DeviceError, match="rows asked in all banks, the longest free run has 0"):
        Gemv.load(stack, np.zeros((50, 40), np.float16), banks=loaded.banks)


@pytest.mark.parametrize(
    ("weights", "vector", "error"),
    [
        (np.zeros((4, 4), np.float32), np.zeros(4), r"weights float32 \[4, 4\] for units of fp16"),
        (np.zeros(4, np.float16), np.zeros(4), r"weights float16 \[4\]"),
        (np.zeros((4, 4), np.float16), np.zeros(5), r"vector \[5\] .*it must have 4 elements"),
        (np.zeros((0, 4), np.float16), np.zeros(4), "a product of 0 x 4 is empty"),
    ],
)
def test_wrong_operands_are_named(stack: PimStack, weights: Values, vector: Values, error: str):
    with pytest.raises(DeviceError, match=error):
        gemv(stack, weights, vector)


@pytest.mark.parametrize(
    ("schedule", "error"),
    [
        (GemvSchedule(8, 17), "17 registers; a unit has 16"),
        (GemvSchedule(65, 8), "65 operand entries; a unit has 64"),
        (GemvSchedule(0, 8), "0 operand entries"),
    ],
)
def test_a_schedule_beyond_the_units_is_refused(
    stack: PimStack, schedule: GemvSchedule, error: str
):
    with pytest.raises(DeviceError, match=error):
        gemv(stack, np.zeros((4, 4), np.float16), np.zeros(4, np.float16), schedule=schedule)


def test_units_of_two_banks_have_no_other_level():
    with pytest.raises(DeviceError, match="no units at level 'buffer'"):
        gemv(
            machine_stack("hbm2-pim"),
            np.zeros((4, 4), np.float16),
            np.zeros(4, np.float16),
            schedule=GemvSchedule(8, 8, "buffer"),
        )
