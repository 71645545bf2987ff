"""Any product and schedule: compiled values are those of the interpreted commands, bit by bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.operations.gemv import Gemv
from tokenloom.backends.pim.operations.gemv_layout import GemvLayout, GemvSchedule
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.interpreter import interpret
from tokenloom.backends.pim.streams.stack_state import StackState

Values = NDArray[Any]


@st.composite
def stacks(draw: st.DrawFn) -> PimStack:
    """Small stacks with units at one or at two banks."""
    base = load_machine("this-host-pim").pim
    assert base is not None
    unit = replace(base.unit, banks_per_unit=draw(st.sampled_from([1, 2])))
    return replace(
        base,
        stacks=draw(st.integers(1, 2)),
        channels=draw(st.integers(1, 3)),
        pseudo_channels=draw(st.integers(1, 2)),
        sids=1,
        pim_sids=1,
        bank_groups=draw(st.integers(1, 2)),
        columns=draw(st.sampled_from([4, 8])),
        rows=512,
        pim_rows=512,
        unit=unit,
    )


@st.composite
def schedules(draw: st.DrawFn, stack: PimStack) -> GemvSchedule:
    levels = ["bank", "bank-group", "buffer"] if stack.unit.banks_per_unit == 1 else ["bank"]
    flags = st.booleans()
    return GemvSchedule(
        draw(st.integers(1, 8)),
        draw(st.integers(1, 8)),
        draw(st.sampled_from(levels)),
        draw(flags),
        draw(flags),
        draw(flags),
    )


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_compiled_values_equal_the_interpreted_commands(data: st.DataObject):
    stack = data.draw(stacks())
    schedule = data.draw(schedules(stack))
    outputs, inputs = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 200))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    weights = random.standard_normal((outputs, inputs)).astype(np.float16)
    vector = random.standard_normal(inputs).astype(np.float16)
    loaded = Gemv.load(stack, weights, schedule=schedule)
    result = loaded.run(vector)
    assert np.array_equal(interpreted(loaded, vector), result.lanes)
    exact = weights.astype(np.float64) @ vector
    assert np.allclose(result.lanes.sum(1, dtype=np.float64), exact, atol=0.2)


def interpreted(loaded: Gemv, vector: Values) -> Values:
    rows = loaded.banks.geometry.size("row")
    stack = replace(loaded.layout.stack, rows=rows, pim_rows=rows)
    state = StackState(stack, base_elements=1 << 14, banks=loaded.banks)
    inputs = loaded.layout.chunked(vector)
    state.base[: inputs.size] = inputs.reshape(-1)
    loaded.results[...] = 0
    interpret(loaded.stream(), state)
    return loaded.lanes_of(loaded.results)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_what_is_scattered_lies_where_the_layout_has_room_for_it(data: st.DataObject):
    stack = data.draw(stacks())
    schedule = data.draw(schedules(stack))
    outputs, inputs = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 200))
    layout = GemvLayout.of(stack, outputs, inputs, schedule)
    weights = np.arange(1, outputs * inputs + 1, dtype=np.float64).reshape(outputs, inputs)
    rows = np.full(layout.bank_shape(layout.weight_rows), np.nan)
    layout.scatter(rows, weights)
    assert np.array_equal(np.sort(rows[rows > 0]), weights.reshape(-1))
    assert not np.isnan(rows).any()


@pytest.mark.parametrize("seed", range(3))
def test_accumulators_come_back_in_the_order_of_the_outputs(seed: int):
    stack = load_machine("this-host-pim").pim
    assert stack is not None
    random = np.random.default_rng(seed)
    stack = replace(stack, channels=int(random.integers(1, 4)), rows=64, pim_rows=64)
    outputs = int(random.integers(1, 3000))
    weights = np.zeros((outputs, 16), np.float16)
    weights[:, 3] = np.arange(outputs) % 2048
    vector = np.zeros(16, np.float16)
    vector[3] = 1
    lanes = Gemv.load(stack, weights).run(vector).lanes
    assert np.array_equal(lanes, weights)
