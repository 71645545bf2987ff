from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.backends.device import DeviceError
from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.drawing import Cell, Share
from tokenloom.backends.pim.gemv_drawing import gemv_map, weight_places
from tokenloom.backends.pim.operations.gemv_layout import GemvLayout, default_schedule
from tokenloom.backends.pim.stack import PimStack


def pim(name: str) -> PimStack:
    stack = load_machine(name).pim
    assert stack is not None
    return stack


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(["hbm2-pim", "attacc-hbm3", "hbm4-het-2of4"]),
    outputs=st.integers(1, 300),
    inputs=st.integers(1, 600),
)
def test_places_are_those_that_the_layout_writes(name: str, outputs: int, inputs: int) -> None:
    stack = replace(pim(name), stacks=1, channels=1, columns=16)
    layout = GemvLayout.of(stack, outputs, inputs, default_schedule(stack))
    weights = np.arange(1, outputs * inputs + 1, dtype=np.float64).reshape(outputs, inputs)
    rows = np.zeros(layout.bank_shape(layout.weight_rows))
    layout.scatter(rows, weights)
    lanes, (channels, *_) = layout.lanes, layout.units
    by_slot = rows.reshape(layout.weight_rows, channels, stack.columns, -1, stack.banks, lanes)
    output, chunk = np.meshgrid(np.arange(outputs), np.arange(layout.chunks), indexing="ij")
    channel, slot, bank, row, column = weight_places(layout, output, chunk)
    found = by_slot[row, channel, column, slot, bank].reshape(outputs, -1)
    assert np.array_equal(found[:, :inputs], weights)
    assert not found[:, inputs:].any()


def test_weights_of_samsungs_stack_are_drawn_as_they_lie() -> None:
    drawn = gemv_map(pim("hbm2-pim"), 4096, 1024)
    assert (drawn.channels, drawn.num_shares, len(drawn.slots)) == (32, 32, 8)
    assert drawn.shares[:2] == (
        Share(0, 0, "outputs 0 to 15, and of every 512 after", 0, 7),
        Share(1, 16, "outputs 16 to 31, and of every 512 after", 0, 7),
    )
    # Even tiles of 128 inputs lie in the even bank of a unit, odd ones in the odd bank.
    assert Cell(0, 0, 0, "o0 i0-15") in drawn.cells
    assert Cell(0, 1, 0, "o0 i128-143") in drawn.cells
    assert Cell(0, 2, 0, "o1 i0-15") in drawn.cells
    assert Cell(0, 0, 1, "o512 i0-15") in drawn.cells
    assert len(drawn.cells) == 8 * 4 * 2


def test_a_few_outputs_leave_channels_empty() -> None:
    drawn = gemv_map(pim("attacc-hbm3"), 70, 20)
    assert [share.what for share in drawn.shares] == ["outputs 0 to 63", "outputs 64 to 69"]
    assert {cell.what for cell in drawn.cells if cell.slot == 0} == {
        f"o{output} i{inputs}" for output in range(4) for inputs in ("0-15", "16-19")
    }


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DeviceError, match="rows in each bank"):
        gemv_map(pim("hbm2-pim"), 1 << 20, 1 << 20)
    with pytest.raises(DeviceError, match="is computing"):
        gemv_map(pim("hbm4-dense"), 64, 64)
