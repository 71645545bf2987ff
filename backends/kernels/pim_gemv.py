# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false
"""The matrix-vector product in the banks of a PIM stack, scheduled for its units.

One TIR function says what is computed on which columns; a schedule splits, orders and tensorizes
its loops; values and commands are made of the result. It knows nothing of where rows begin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import tvm
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tokenloom.backends.kernels import pim_intrinsics as intrinsics
from tokenloom.backends.kernels.pim_intrinsics import BANK, BASE, OPERAND, REGISTER, Units
from tokenloom.backends.kernels.pim_legality import Limits, check_commands, check_schedule
from tokenloom.backends.kernels.pim_record import commands, values
from tokenloom.backends.kernels.pim_scope import AXES, UnitScope
from tokenloom.backends.pim.stack import LEVELS
from tokenloom.kernel_spec import KernelSpec

SELECTED = ("channel", "pseudo_channel", "unit", "sid", "bank_group")
"""The order of loops over what commands select: bank groups change fastest, since two columns of
one bank group are further apart than of two."""


@dataclass(frozen=True)
class GemvShape:
    """What a spec says of a product: its units, its tiles, and the order of its commands."""

    units: Units
    limits: Limits
    output_tiles: int
    input_tiles: int
    operands: int
    registers: int
    weight_rows: int
    result_rows: int
    operand_inner: bool
    banks_inner: bool

    @classmethod
    def of(cls, spec: KernelSpec) -> GemvShape:
        """Take the shape out of a spec of `pim_gemv`; its dtype is the arithmetic."""
        level = LEVELS[spec.dim("level")]
        scope = UnitScope.of(spec, level, bool(spec.dim("by_channel")))
        units = Units(
            scope,
            spec.dtype,
            spec.dim("registers"),
            spec.dim("operand_entries"),
        )
        return cls(
            units,
            Limits.of(spec),
            spec.dim("output_tiles"),
            spec.dim("input_tiles"),
            spec.dim("operands"),
            spec.dim("registers"),
            spec.dim("weight_rows"),
            spec.dim("result_rows"),
            bool(spec.dim("operand_inner")),
            bool(spec.dim("banks_inner")),
        )

    @property
    def chunks(self) -> int:
        """Columns of inputs."""
        return self.input_tiles * self.operands * self.units.scope.banks_per_unit

    @property
    def groups(self) -> int:
        """Accumulators of each unit over all tiles of outputs."""
        return self.output_tiles * self.registers

    @property
    def stores(self) -> bool:
        """Whether results go to the banks, as FP16 does; wider ones go to the base die."""
        return self.result_rows > 0

    def weight(self, group: Any, units: Any, chunk: Any, lane: Any) -> tuple[Any, ...]:
        """Return the index of a weight; see `pim/gemv_layout.py`."""
        per_unit, columns = self.units.scope.banks_per_unit, self.units.scope.address.columns
        tile = group // self.registers * self.input_tiles + chunk // (self.operands * per_unit)
        column = (tile * self.operands + chunk % self.operands) * self.registers
        column = column + group % self.registers
        channel, *rest = units
        bank = chunk // self.operands % per_unit
        return column // columns, channel, column % columns, *rest, bank, lane

    def result(self, group: Any, units: Any, lane: Any) -> tuple[Any, ...]:
        """Return the index of a result in the banks."""
        columns, (channel, *rest) = self.units.scope.address.columns, units
        return group // columns, channel, group % columns, *rest, 0, lane


def gemv(name: str, shape: GemvShape) -> Any:
    """Return the function (weights, inputs, results) before it is scheduled.

    Blocks: `write` brings inputs to the operand buffers, `mac` multiplies, `out` brings results to
    the banks or to the base die.
    """
    scope, types = shape.units.scope, shape.units.types
    lanes, chunks, groups, extents = scope.lanes, shape.chunks, shape.groups, scope.extents
    stores = shape.stores
    results = scope.bank_shape(shape.result_rows) if stores else (groups, *extents, lanes)

    @T.macro
    def out(y, acc):
        for g, c, p, s, b, u, i in T.grid(groups, *extents, lanes):
            with T.sblock("out"):
                vg, vc, vp, vs, vb, vu, vi = T.axis.remap("SSSSSSS", [g, c, p, s, b, u, i])
                if stores:
                    y[shape.result(vg, (vc, vp, vs, vb, vu), vi)] = acc[vg, vc, vp, vs, vb, vu, vi]
                else:
                    y[vg, vc, vp, vs, vb, vu, vi] = T.Cast(
                        "float32", acc[vg, vc, vp, vs, vb, vu, vi]
                    )

    @T.prim_func(s_tir=True)
    def main(w_: T.handle, x_: T.handle, y_: T.handle):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        w = T.match_buffer(w_, scope.bank_shape(shape.weight_rows), types.element, scope=BANK)
        x = T.match_buffer(x_, (chunks, lanes), "float32", scope=BASE)
        y = T.match_buffer(
            y_, results, types.element if stores else "float32", scope=BANK if stores else BASE
        )
        v = T.sblock_alloc_buffer((chunks, lanes), types.element, scope=OPERAND)
        acc = T.sblock_alloc_buffer((groups, *extents, lanes), types.register, scope=REGISTER)
        for k, i in T.grid(chunks, lanes):
            with T.sblock("write"):
                vk, vi = T.axis.remap("SS", [k, i])
                v[vk, vi] = T.Cast(types.element, x[vk, vi])
        for g, k, c, p, s, b, u, i in T.grid(groups, chunks, *extents, lanes):
            with T.sblock("mac"):
                vg, vk, vc, vp, vs, vb, vu, vi = T.axis.remap("SRSSSSSS", [g, k, c, p, s, b, u, i])
                with T.init():
                    acc[vg, vc, vp, vs, vb, vu, vi] = T.Cast(types.register, 0)
                acc[vg, vc, vp, vs, vb, vu, vi] = shape.units.multiply_add(
                    acc[vg, vc, vp, vs, vb, vu, vi],
                    w[shape.weight(vg, (vc, vp, vs, vb, vu), vk, vi)],
                    v[vk, vi],
                    1,
                )
        out(y, acc)

    return main


def scheduled(name: str, shape: GemvShape) -> Any:
    """Return the function with its loops bound to the levels of the stack and tensorized."""
    schedule: Any = Schedule(tvm.IRModule({"main": gemv(name, shape)}))
    mac, write, out = (schedule.get_sblock(block) for block in ("mac", "write", "out"))
    group, chunk, *axes, _ = schedule.get_loops(mac)
    tile, register = schedule.split(group, [shape.output_tiles, shape.registers])
    per_unit = shape.units.scope.banks_per_unit
    turn, bank, operand = schedule.split(chunk, [shape.input_tiles, per_unit, shape.operands])
    by_name = dict(zip(AXES, axes, strict=True))
    single = [n for n, e in zip(AXES, shape.units.scope.taken, strict=True) if e == 1]
    kept = [by_name[name] for name in SELECTED if name in single]
    taken = [axis for axis in axes if axis not in kept]
    within = [register, operand] if shape.operand_inner else [operand, register]
    steps = [*within, *kept] if shape.banks_inner else [*kept, *within]
    schedule.reorder(tile, bank, turn, *steps, *taken)
    if "channel" in shape.units.scope.outside:
        schedule.parallel(axes[0])
    schedule.compute_at(write, turn)
    schedule.reverse_compute_at(out, tile)
    loops = len(taken) + 1
    check_schedule(schedule.mod["main"], shape.limits, {"mac": loops, "out": loops})
    schedule.decompose_reduction(mac, bank)
    _tensorize(schedule, shape)
    check_commands(schedule.mod["main"])
    return schedule.mod["main"]


def gemv_values(name: str, spec: KernelSpec) -> Any:
    """Return the function (weights, inputs, results) that computes."""
    return values(scheduled(name, GemvShape.of(spec)))


def gemv_commands(name: str, spec: KernelSpec) -> Any:
    """Return the function of the same arguments, `stream` and `count` that writes commands."""
    return commands(scheduled(name, GemvShape.of(spec)))


def _tensorize(schedule: Any, shape: GemvShape) -> None:
    """Replace the inner loops of each block by its intrinsic."""
    units, scope = shape.units, shape.units.scope
    update, write = schedule.get_sblock("mac_update"), schedule.get_sblock("write")
    schedule.tensorize(schedule.get_loops(update)[-1 - len(scope.loops)], intrinsics.mac(units))
    schedule.tensorize(schedule.get_loops(write)[-1], intrinsics.write_operand(units))
    out = schedule.get_sblock("out")
    slot = replace(scope, outside=AXES[:-1])
    once = scope if shape.stores else slot
    axes = [extent for extent in zip(scope.extents, once.taken, strict=True) if extent[0] > 1]
    *_, lane = loops = schedule.get_loops(out)
    units_loops = loops[len(loops) - 1 - len(axes) : -1]
    kept = [loop for loop, (_, taken) in zip(units_loops, axes, strict=True) if taken == 1]
    taken = [loop for loop in units_loops if loop not in kept]
    schedule.reorder(*kept, *taken, lane)
    together = replace(units, scope=once)
    if shape.stores:
        made = intrinsics.store(together, shape.weight_rows)
    else:
        made = intrinsics.move_out(together, shape.chunks * scope.lanes)
    schedule.tensorize([*taken, lane][0], made)
