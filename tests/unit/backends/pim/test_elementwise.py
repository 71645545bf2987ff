from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenloom.backends.device import DeviceError
from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.operations.elementwise import Elementwise, Operation, elementwise
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.interpreter import interpret
from tokenloom.backends.pim.streams.stack_state import StackState

Half = NDArray[np.float16]
MILLION = 1_000_000
OPERATIONS: list[Operation] = ["add", "mul", "relu"]


def every_kind(count: int, seed: int) -> Half:
    """Random bit patterns: among a million each of the 65,536 is there, NaNs and all."""
    random = np.random.default_rng(seed)
    return random.integers(0, 1 << 16, count, dtype=np.uint16).view(np.float16)


def by_numpy(operation: Operation, *operands: Half) -> Half:
    with np.errstate(all="ignore"):
        if operation == "relu":
            return np.where(np.signbit(operands[0]), np.float16(0), operands[0])
        return operands[0] + operands[1] if operation == "add" else operands[0] * operands[1]


def operands_of(operation: Operation, count: int) -> list[Half]:
    return [every_kind(count, seed) for seed in range(1 if operation == "relu" else 2)]


def bits(values: Any) -> NDArray[np.uint16]:
    return np.ascontiguousarray(values, np.float16).view(np.uint16)


@pytest.mark.parametrize("machine", ["hbm2-pim", "attacc-hbm3"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_million_elements_equal_numpy_to_the_last_bit(machine: str, operation: Operation):
    stack = load_machine(machine).pim
    assert stack is not None
    operands = operands_of(operation, MILLION)
    result = elementwise(stack, operation, *operands).values
    expected = by_numpy(operation, *operands)
    assert np.isnan(expected).sum() > MILLION // 100
    assert np.array_equal(bits(result), bits(expected))


def test_relu_of_minus_zero_and_of_negative_nan_is_plus_zero(stack: PimStack):
    values = np.array([-0.0, 0.0, -1.0, 2.0, np.inf, -np.inf, -np.nan, np.nan], np.float16)
    values[6] = np.copysign(values[6], -1)
    values[7] = np.copysign(values[7], 1)
    result = elementwise(stack, "relu", values).values
    assert bits(result[[0, 1, 2, 5, 6]]).tolist() == [0] * 5
    assert result[3:5].tolist() == [2.0, np.inf]
    assert np.isnan(result[7])


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("per_unit", [1, 2])
def test_levels_and_channels_change_commands_only(
    stack: PimStack, operation: Operation, per_unit: int
):
    unit = replace(stack.unit, banks_per_unit=per_unit)
    stack = replace(stack, unit=unit)
    operands = operands_of(operation, 40_000)
    expected = bits(by_numpy(operation, *operands))
    streams: set[bytes] = set()
    levels = ["bank", "bank-group", "buffer"] if per_unit == 1 else ["bank"]
    for level in levels:
        for by_channel in (False, True):
            loaded = Elementwise.load(
                stack, operation, operands, level=level, by_channel=by_channel
            )
            assert np.array_equal(bits(loaded.run()), expected)
            streams.add(loaded.stream().records.tobytes())
            assert np.array_equal(bits(interpreted(loaded)), expected)
    assert len(streams) == 2 * len(levels)


def interpreted(loaded: Elementwise) -> Half:
    rows = loaded.banks.geometry.size("row")
    stack = replace(loaded.layout.stack, rows=rows, pim_rows=rows)
    loaded.arrays[-1][...] = 0
    interpret(loaded.stream(), StackState(stack, base_elements=0, banks=loaded.banks))
    return loaded.layout.gather(loaded.arrays[-1])


def test_shapes_stay(stack: PimStack):
    values = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
    assert np.array_equal(elementwise(stack, "add", values, values).values, 2 * values)


@pytest.mark.parametrize(
    ("operands", "error"),
    [
        ([np.zeros(4, np.float16)], "add takes 2 operands, not 1"),
        ([np.zeros(4, np.float16), np.zeros(5, np.float16)], r"different shapes \[\(4,\), \(5,\)"),
        ([np.zeros(4), np.zeros(4)], "add of float64; units combine float16"),
        ([np.zeros(10**6, np.float16)] * 2, r"takes \d+ rows .* there are 16"),
    ],
)
def test_wrong_operands_are_named(stack: PimStack, operands: list[Any], error: str):
    with pytest.raises(DeviceError, match=error):
        elementwise(stack, "add", *operands)
