# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownLambdaType=false
"""Element-wise operations in the banks of a PIM stack: add, mul and relu of FP16.

A tile of columns is loaded into registers, combined with the other operand's, and stored. The
order keeps to one row as long as there are registers. It knows nothing of where rows begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import add, mul
from typing import Any

import tvm
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tokenloom.backends.kernels import pim_intrinsics as intrinsics
from tokenloom.backends.kernels.pim_intrinsics import BANK, REGISTER, Units, rectified
from tokenloom.backends.kernels.pim_legality import Limits, check_commands, check_schedule
from tokenloom.backends.kernels.pim_record import commands, values
from tokenloom.backends.kernels.pim_scope import UnitScope
from tokenloom.backends.pim.stack import LEVELS
from tokenloom.backends.pim.streams.commands import Op
from tokenloom.kernel_spec import KernelSpec

OPERATIONS = {"add": (Op.ADD, add), "mul": (Op.MUL, mul)}


@dataclass(frozen=True)
class ElementwiseShape:
    """The units, `tiles` of `registers` columns in each of them, and the rows of one operand."""

    units: Units
    limits: Limits
    tiles: int
    registers: int
    rows: int

    @classmethod
    def of(cls, spec: KernelSpec) -> ElementwiseShape:
        """Take the shape out of a spec of an element-wise operation."""
        scope = UnitScope.of(spec, LEVELS[spec.dim("level")], bool(spec.dim("by_channel")))
        registers = spec.dim("registers")
        units = Units(scope, "fp16", registers, spec.dim("operand_entries"))
        return cls(units, Limits.of(spec), spec.dim("tiles"), registers, spec.dim("rows"))

    @property
    def columns(self) -> int:
        """Columns of each unit, in all of its banks."""
        return self.tiles * self.registers

    def index(self, column: Any, units: Any, lane: Any) -> tuple[Any, ...]:
        """Return where a unit's column lies: tiles take turns between the unit's banks."""
        per_unit, columns = self.units.scope.banks_per_unit, self.units.scope.address.columns
        tile, (channel, *rest) = column // self.registers, units
        place = tile // per_unit * self.registers + column % self.registers
        return place // columns, channel, place % columns, *rest, tile % per_unit, lane


def elementwise(name: str, operation: str, shape: ElementwiseShape) -> Any:
    """Return the function (a, b, result), of relu (a, result), before it is scheduled.

    Blocks: `first` brings a into registers, `second` combines them with b, `store` writes them.
    """
    scope = shape.units.scope
    banks = scope.bank_shape(shape.rows)
    grid = (shape.columns, *scope.extents, scope.lanes)

    @T.prim_func(s_tir=True)
    def rectify(a_: T.handle, y_: T.handle):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        a = T.match_buffer(a_, banks, "float16", scope=BANK)
        y = T.match_buffer(y_, banks, "float16", scope=BANK)
        p = T.sblock_alloc_buffer(grid, "float16", scope=REGISTER)
        for n, c, r, s, b, u, i in T.grid(*grid):
            with T.sblock("second"):
                vn, vc, vr, vs, vb, vu, vi = T.axis.remap("SSSSSSS", [n, c, r, s, b, u, i])
                value = T.meta_var(a[shape.index(vn, (vc, vr, vs, vb, vu), vi)])
                p[vn, vc, vr, vs, vb, vu, vi] = rectified(value, 1)
        for n, c, r, s, b, u, i in T.grid(*grid):
            with T.sblock("store"):
                vn, vc, vr, vs, vb, vu, vi = T.axis.remap("SSSSSSS", [n, c, r, s, b, u, i])
                y[shape.index(vn, (vc, vr, vs, vb, vu), vi)] = p[vn, vc, vr, vs, vb, vu, vi]

    if operation == "relu":
        return rectify
    function = OPERATIONS[operation][1]

    @T.prim_func(s_tir=True)
    def combine(a_: T.handle, b_: T.handle, y_: T.handle):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        a = T.match_buffer(a_, banks, "float16", scope=BANK)
        other = T.match_buffer(b_, banks, "float16", scope=BANK)
        y = T.match_buffer(y_, banks, "float16", scope=BANK)
        q = T.sblock_alloc_buffer(grid, "float16", scope=REGISTER)
        p = T.sblock_alloc_buffer(grid, "float16", scope=REGISTER)
        for n, c, r, s, b, u, i in T.grid(*grid):
            with T.sblock("first"):
                vn, vc, vr, vs, vb, vu, vi = T.axis.remap("SSSSSSS", [n, c, r, s, b, u, i])
                q[vn, vc, vr, vs, vb, vu, vi] = a[shape.index(vn, (vc, vr, vs, vb, vu), vi)]
        for n, c, r, s, b, u, i in T.grid(*grid):
            with T.sblock("second"):
                vn, vc, vr, vs, vb, vu, vi = T.axis.remap("SSSSSSS", [n, c, r, s, b, u, i])
                value = T.meta_var(other[shape.index(vn, (vc, vr, vs, vb, vu), vi)])
                p[vn, vc, vr, vs, vb, vu, vi] = function(q[vn, vc, vr, vs, vb, vu, vi], value)
        for n, c, r, s, b, u, i in T.grid(*grid):
            with T.sblock("store"):
                vn, vc, vr, vs, vb, vu, vi = T.axis.remap("SSSSSSS", [n, c, r, s, b, u, i])
                y[shape.index(vn, (vc, vr, vs, vb, vu), vi)] = p[vn, vc, vr, vs, vb, vu, vi]

    return combine


def scheduled(name: str, operation: str, shape: ElementwiseShape) -> Any:
    """Return the function with its loops bound to the levels of the stack and tensorized."""
    function = elementwise(name, operation, shape)
    schedule: Any = Schedule(tvm.IRModule({"main": function}))
    scope, second = shape.units.scope, schedule.get_sblock("second")
    column, *axes, _ = schedule.get_loops(second)
    tile, register = schedule.split(column, [shape.tiles, shape.registers])
    kept = [axis for axis, extent in zip(axes, scope.taken, strict=True) if extent == 1]
    taken = [axis for axis in axes if axis not in kept]
    channel = kept[:1] if "channel" in scope.outside else []
    outer = [*channel, tile, *kept[len(channel) :]]
    schedule.reorder(*outer, register, *taken)
    if channel:
        schedule.parallel(channel[0])
    if operation != "relu":
        schedule.compute_at(schedule.get_sblock("first"), outer[-1])
    schedule.reverse_compute_at(schedule.get_sblock("store"), outer[-1])
    inner = len(scope.loops) + 1
    made = _intrinsics(operation, shape)
    check_schedule(schedule.mod["main"], shape.limits, dict.fromkeys(made, inner))
    for block, intrinsic in made.items():
        schedule.tensorize(schedule.get_loops(schedule.get_sblock(block))[-inner], intrinsic)
    check_commands(schedule.mod["main"])
    return schedule.mod["main"]


def _intrinsics(operation: str, shape: ElementwiseShape) -> dict[str, str]:
    """Return the intrinsic of each block; operands and result lie in rows behind each other."""
    units, rows = shape.units, shape.rows
    if operation == "relu":
        return {"second": intrinsics.relu(units, 0), "store": intrinsics.store(units, rows)}
    op, function = OPERATIONS[operation]
    return {
        "first": intrinsics.load(units, 0),
        "second": intrinsics.combine(units, op, rows, function),
        "store": intrinsics.store(units, 2 * rows),
    }


def elementwise_values(name: str, operation: str, spec: KernelSpec) -> Any:
    """Return the function (a, b, result), of relu (a, result), that computes."""
    return values(scheduled(name, operation, ElementwiseShape.of(spec)))


def elementwise_commands(name: str, operation: str, spec: KernelSpec) -> Any:
    """Return the function of the same arguments, `stream` and `count` that writes commands."""
    return commands(scheduled(name, operation, ElementwiseShape.of(spec)))
