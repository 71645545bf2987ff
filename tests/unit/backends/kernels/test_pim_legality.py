# pyright: reportMissingTypeStubs=false
"""Schedules that the units of a stack cannot run, each refused with what is violated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import tvm
from tvm.s_tir import Schedule

from tokenloom.backends.device import DeviceError
from tokenloom.backends.kernels.pim_gemv import GemvShape, gemv, scheduled
from tokenloom.backends.kernels.pim_legality import check_commands, check_schedule
from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.operations.gemv_layout import GemvLayout, GemvSchedule
from tokenloom.backends.pim.operations.specs import gemv_spec


def shape_of(schedule: GemvSchedule, outputs: int = 40_000, inputs: int = 1024) -> GemvShape:
    stack = load_machine("this-host-pim").pim
    assert stack is not None
    layout = GemvLayout.of(stack, outputs, inputs, schedule)
    return GemvShape.of(gemv_spec(layout, schedule, "fp16"))


@pytest.fixture
def shape() -> GemvShape:
    """Three tiles of four registers, eight tiles of eight operands."""
    return shape_of(GemvSchedule(8, 4))


class Unscheduled:
    """The function of a shape with its outputs and inputs split in tiles, to be ordered at will."""

    def __init__(self, shape: GemvShape):
        self.shape = shape
        self.schedule: Any = Schedule(tvm.IRModule({"main": gemv("main", shape)}))
        self.mac, self.write = (self.schedule.get_sblock(name) for name in ("mac", "write"))
        group, chunk, *self.axes, self.lane = self.schedule.get_loops(self.mac)
        self.tile, self.register = self.schedule.split(group, [None, shape.registers])
        self.turn, self.operand = self.schedule.split(chunk, [None, shape.operands])

    def check(self, inner: int) -> None:
        check_schedule(self.schedule.mod["main"], self.shape.limits, {"mac": inner})


def test_what_the_compiler_schedules_is_legal(shape: GemvShape):
    assert scheduled("main", shape) is not None


@pytest.mark.parametrize("loop", ["register", "operand"])
def test_units_in_different_columns_are_refused(shape: GemvShape, loop: str):
    bad = Unscheduled(shape)
    other = bad.operand if loop == "register" else bad.register
    inner = getattr(bad, loop)
    bad.schedule.reorder(bad.tile, bad.turn, other, inner, *bad.axes)
    bad.schedule.compute_at(bad.write, bad.turn)
    with pytest.raises(DeviceError, match="lock step, but the column that block mac touches"):
        bad.check(len(bad.axes) + 2)
    bad.check(len(bad.axes) + 1)


def test_units_in_different_rows_are_refused(shape: GemvShape):
    bad = Unscheduled(shape)
    bad.schedule.reorder(bad.turn, bad.operand, bad.register, bad.tile, *bad.axes)
    with pytest.raises(DeviceError, match=r"lock step, but the row .* changes with the loop"):
        bad.check(len(bad.axes) + 2)


def test_more_accumulators_than_registers_are_refused(shape: GemvShape):
    bad = Unscheduled(shape_of(GemvSchedule(8, 16)))
    bad.schedule.reorder(bad.turn, bad.tile, bad.operand, bad.register, *bad.axes)
    bad.schedule.compute_at(bad.write, bad.turn)
    with pytest.raises(DeviceError, match=r"adds to 48 registers at once; a unit has 16; put the"):
        bad.check(len(bad.axes) + 1)


def test_all_inputs_at_once_are_refused_where_there_are_too_few_operand_entries(shape: GemvShape):
    limits = replace(shape.limits, operand_entries=32)
    bad = Unscheduled(replace(shape, limits=limits))
    bad.schedule.reorder(bad.tile, bad.turn, bad.operand, bad.register, *bad.axes)
    with pytest.raises(DeviceError, match="writes 64 operand entries before their use; a unit has"):
        bad.check(len(bad.axes) + 1)


def test_rows_that_the_banks_lack_are_refused(shape: GemvShape):
    needed = shape.weight_rows + shape.result_rows
    limits = replace(shape.limits, rows=needed - 1)
    with pytest.raises(DeviceError, match=rf"{needed} rows are needed in each bank"):
        scheduled("main", replace(shape, limits=limits))


def test_a_loop_beyond_the_rows_of_a_buffer_is_refused(shape: GemvShape):
    with pytest.raises(DeviceError, match=r"block mac touches row \d+; there are 2, from 0 on"):
        scheduled("main", replace(shape, weight_rows=2))


def test_banks_are_touched_by_commands_only(shape: GemvShape):
    with pytest.raises(DeviceError, match="block mac touches the banks without a command"):
        check_commands(Unscheduled(shape).schedule.mod["main"])
