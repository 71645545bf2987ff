# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownLambdaType=false
# The parameters of macros are buffers and expressions of the script; they have no Python types.
"""The tensor intrinsics of a PIM stack: what units and base die do in one command.

Each has a description, which TVM matches with the block that a schedule tensorizes, and an
implementation with both the command and its arithmetic on 16 or 32 lanes (see `pim_record`). They
are made for a scope of units and an arithmetic; their meaning is that of `pim/streams/commands.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from tokenloom.backends.kernels.pim_record import command
from tokenloom.backends.kernels.pim_scope import Expr, UnitScope
from tokenloom.backends.pim.streams.commands import LANES, START, Op

BANK = "global.pim_bank"
REGISTER = "global.pim_register"
OPERAND = "global.pim_operand"
BASE = "global.pim_base"
"""Memory scopes: columns of banks, accumulators, operand buffers, memory of the base die."""


@dataclass(frozen=True)
class Arithmetic:
    """Types of the elements in banks and operand buffers, and of registers."""

    element: str
    register: str


ARITHMETIC = {
    "fp16": Arithmetic("float16", "float16"),
    "float32": Arithmetic("float16", "float32"),
    "int8": Arithmetic("int8", "int32"),
}
"""As in `pim/streams/stack_state.py`: FP16 rounded after multiply and add; FP32 or INT32 sums."""


@dataclass(frozen=True)
class Units:
    """Units that work together, their arithmetic, and how many registers and operands are used.

    Registers and entries are used by turns: the n-th accumulator is in register n mod `registers`.
    """

    scope: UnitScope
    arithmetic: str
    registers: int
    operand_entries: int

    @property
    def types(self) -> Arithmetic:
        """The types of the arithmetic."""
        return ARITHMETIC[self.arithmetic]

    def name(self, op: str) -> str:
        """Return the name that an intrinsic is registered by."""
        sizes = f"{self.registers}.{self.operand_entries}"
        return f"pim.{op}.{self.arithmetic}.{sizes}.{self.scope.key}"

    def register_of(self, offset: Expr) -> Expr:
        """Return the register that an element offset of accumulators means."""
        return self.scope.register_index(offset) % self.registers

    def multiply_add(self, total: Expr, column: Expr, operand: Expr, lanes: int) -> Expr:
        """Return total + column * operand in the units' arithmetic, on 1 lane or all."""
        return total + self._wide(column, lanes) * self._wide(operand, lanes)

    def _wide(self, value: Expr, lanes: int) -> Expr:
        """Return elements in the type of products and sums."""
        if self.types.element == self.types.register:
            return value
        return T.Cast(
            self.types.register if lanes == 1 else f"{self.types.register}x{lanes}", value
        )


def mac(units: Units) -> str:
    """Return the name of MAC: registers += column * operand, lane by lane.

    Operand 0 of a vector starts the accumulators: what was in them before is replaced.
    """
    scope, types = units.scope, units.types
    lanes, column, register = scope.lanes, scope.column, scope.register
    every = T.ramp(0, 1, lanes)

    @T.prim_func(s_tir=True)
    def description(w_: T.handle, v_: T.handle, p_: T.handle):
        w = T.match_buffer(w_, column, types.element, offset_factor=1, scope=BANK)
        v = T.match_buffer(v_, (1, lanes), types.element, offset_factor=1, scope=OPERAND)
        p = T.match_buffer(p_, register, types.register, offset_factor=1, scope=REGISTER)
        with T.sblock("root"):
            T.reads(whole(p, register), whole(w, column), whole(v, (1, lanes)))
            T.writes(whole(p, register))
            for loops in T.grid(*scope.loops, lanes):
                with T.sblock("mac"):
                    at = T.meta_var(remap(loops))
                    i = T.meta_var(scope.in_register(at, at[-1]))
                    w_lane = T.meta_var(w[scope.in_column(at, at[-1])])
                    p[i] = units.multiply_add(p[i], w_lane, v[0, at[-1]], 1)

    @T.prim_func(s_tir=True)
    def implementation(w_: T.handle, v_: T.handle, p_: T.handle):
        w = T.match_buffer(
            w_, column, types.element, offset_factor=1, scope=BANK, strides=strides(column)
        )
        v = T.match_buffer(
            v_, (1, lanes), types.element, offset_factor=1, scope=OPERAND, strides=strides((1, 1))
        )
        p = T.match_buffer(
            p_, register, types.register, offset_factor=1, scope=REGISTER, strides=strides(register)
        )
        with T.sblock("root"):
            T.reads(whole(p, register), whole(w, column), whole(v, (1, lanes)))
            T.writes(whole(p, register))
            T.evaluate(
                command(
                    Op.MAC,
                    **scope.fields(w.elem_offset),
                    src=v.elem_offset // lanes % units.operand_entries,
                    dst=units.register_of(p.elem_offset),
                    flags=T.Select(v.elem_offset == 0, START, 0),
                )
            )
            for at in T.grid(*scope.unit_loops):
                i = T.meta_var(scope.in_register(at, every))
                w_lanes = T.meta_var(w[scope.in_column(at, every)])
                p[i] = units.multiply_add(p[i], w_lanes, v[0, every], lanes)

    return register_intrinsic(units.name("mac"), description, implementation)


def load(units: Units, first_row: int) -> str:
    """Return the name of LOAD: registers = column; buffers begin at row `first_row`."""
    return _from_column(units, Op.LOAD, first_row, lambda column, _: column)


def relu(units: Units, first_row: int) -> str:
    """Return the name of RELU: registers = column, or +0 where its sign bit is set."""
    return _from_column(units, Op.RELU, first_row, rectified)


def rectified(value: Expr, lanes: int) -> Expr:
    """Return FP16 numbers, +0 for those whose sign bit is set: -0 and NaNs with that bit, too."""
    if lanes == 1:
        return T.Select(T.reinterpret("int16", value) < T.int16(0), T.float16(0), value)
    negative = T.reinterpret(f"int16x{lanes}", value) < T.broadcast(T.int16(0), lanes)
    return T.Select(negative, T.broadcast(T.float16(0), lanes), value)


def _from_column(
    units: Units, op: Op, first_row: int, function: Callable[[Expr, int], Expr]
) -> str:
    scope, types = units.scope, units.types
    lanes, column, register = scope.lanes, scope.column, scope.register
    every = T.ramp(0, 1, lanes)

    @T.prim_func(s_tir=True)
    def description(w_: T.handle, p_: T.handle):
        w = T.match_buffer(w_, column, types.element, offset_factor=1, scope=BANK)
        p = T.match_buffer(p_, register, types.register, offset_factor=1, scope=REGISTER)
        with T.sblock("root"):
            T.reads(whole(w, column))
            T.writes(whole(p, register))
            for loops in T.grid(*scope.loops, lanes):
                with T.sblock("unit"):
                    at = T.meta_var(remap(loops))
                    p[scope.in_register(at, at[-1])] = function(w[scope.in_column(at, at[-1])], 1)

    @T.prim_func(s_tir=True)
    def implementation(w_: T.handle, p_: T.handle):
        w = T.match_buffer(
            w_, column, types.element, offset_factor=1, scope=BANK, strides=strides(column)
        )
        p = T.match_buffer(
            p_, register, types.register, offset_factor=1, scope=REGISTER, strides=strides(register)
        )
        with T.sblock("root"):
            T.reads(whole(w, column))
            T.writes(whole(p, register))
            at_column = T.meta_var(scope.fields(w.elem_offset, first_row))
            T.evaluate(command(op, **at_column, dst=units.register_of(p.elem_offset)))
            for at in T.grid(*scope.unit_loops):
                p[scope.in_register(at, every)] = function(w[scope.in_column(at, every)], lanes)

    return register_intrinsic(units.name(f"{op.name}.{first_row}"), description, implementation)


def combine(units: Units, op: Op, first_row: int, function: Callable[[Expr, Expr], Expr]) -> str:
    """Return the name of ADD or MUL: registers = function of registers and column."""
    scope, types = units.scope, units.types
    lanes, column, register = scope.lanes, scope.column, scope.register
    every = T.ramp(0, 1, lanes)

    @T.prim_func(s_tir=True)
    def description(q_: T.handle, w_: T.handle, p_: T.handle):
        q = T.match_buffer(q_, register, types.register, offset_factor=1, scope=REGISTER)
        w = T.match_buffer(w_, column, types.element, offset_factor=1, scope=BANK)
        p = T.match_buffer(p_, register, types.register, offset_factor=1, scope=REGISTER)
        with T.sblock("root"):
            T.reads(whole(q, register), whole(w, column))
            T.writes(whole(p, register))
            for loops in T.grid(*scope.loops, lanes):
                with T.sblock("unit"):
                    at = T.meta_var(remap(loops))
                    i = T.meta_var(scope.in_register(at, at[-1]))
                    p[i] = function(q[i], w[scope.in_column(at, at[-1])])

    @T.prim_func(s_tir=True)
    def implementation(q_: T.handle, w_: T.handle, p_: T.handle):
        q = T.match_buffer(
            q_, register, types.register, offset_factor=1, scope=REGISTER, strides=strides(register)
        )
        w = T.match_buffer(
            w_, column, types.element, offset_factor=1, scope=BANK, strides=strides(column)
        )
        p = T.match_buffer(
            p_, register, types.register, offset_factor=1, scope=REGISTER, strides=strides(register)
        )
        with T.sblock("root"):
            T.reads(whole(q, register), whole(w, column))
            T.writes(whole(p, register))
            at_column = T.meta_var(scope.fields(w.elem_offset, first_row))
            T.evaluate(command(op, **at_column, dst=units.register_of(p.elem_offset)))
            for at in T.grid(*scope.unit_loops):
                i = T.meta_var(scope.in_register(at, every))
                p[i] = function(q[i], w[scope.in_column(at, every)])

    return register_intrinsic(units.name(f"{op.name}.{first_row}"), description, implementation)


def store(units: Units, first_row: int) -> str:
    """Return the name of STORE: column = registers, which hold FP16."""
    scope, types = units.scope, units.types
    lanes, column, register = scope.lanes, scope.column, scope.register
    every = T.ramp(0, 1, lanes)

    @T.prim_func(s_tir=True)
    def description(p_: T.handle, w_: T.handle):
        p = T.match_buffer(p_, register, types.register, offset_factor=1, scope=REGISTER)
        w = T.match_buffer(w_, column, types.element, offset_factor=1, scope=BANK)
        with T.sblock("root"):
            T.reads(whole(p, register))
            T.writes(whole(w, column))
            for loops in T.grid(*scope.loops, lanes):
                with T.sblock("store"):
                    at = T.meta_var(remap(loops))
                    w[scope.in_column(at, at[-1])] = p[scope.in_register(at, at[-1])]

    @T.prim_func(s_tir=True)
    def implementation(p_: T.handle, w_: T.handle):
        p = T.match_buffer(
            p_, register, types.register, offset_factor=1, scope=REGISTER, strides=strides(register)
        )
        w = T.match_buffer(
            w_, column, types.element, offset_factor=1, scope=BANK, strides=strides(column)
        )
        with T.sblock("root"):
            T.reads(whole(p, register))
            T.writes(whole(w, column))
            at_column = T.meta_var(scope.fields(w.elem_offset, first_row))
            T.evaluate(command(Op.STORE, **at_column, dst=units.register_of(p.elem_offset)))
            for at in T.grid(*scope.unit_loops):
                w[scope.in_column(at, every)] = p[scope.in_register(at, every)]

    return register_intrinsic(units.name(f"store.{first_row}"), description, implementation)


def write_operand(units: Units) -> str:
    """Return the name of WR_GB to all units: operand = a column's worth of base die memory."""
    scope, types, lanes = units.scope, units.types, units.scope.lanes
    every = T.ramp(0, 1, lanes)

    @T.prim_func(s_tir=True)
    def description(x_: T.handle, v_: T.handle):
        x = T.match_buffer(x_, (1, lanes), "float32", offset_factor=1, scope=BASE)
        v = T.match_buffer(v_, (1, lanes), types.element, offset_factor=1, scope=OPERAND)
        with T.sblock("root"):
            T.reads(whole(x, (1, lanes)))
            T.writes(whole(v, (1, lanes)))
            for lane in T.serial(lanes):
                with T.sblock("write"):
                    i = T.axis.spatial(lanes, lane)
                    v[0, i] = T.Cast(types.element, x[0, i])

    @T.prim_func(s_tir=True)
    def implementation(x_: T.handle, v_: T.handle):
        x = T.match_buffer(
            x_, (1, lanes), "float32", offset_factor=1, scope=BASE, strides=strides((1, 1))
        )
        v = T.match_buffer(
            v_, (1, lanes), types.element, offset_factor=1, scope=OPERAND, strides=strides((1, 1))
        )
        with T.sblock("root"):
            T.reads(whole(x, (1, lanes)))
            T.writes(whole(v, (1, lanes)))
            T.evaluate(
                command(
                    Op.WR_GB,
                    address=x.elem_offset,
                    src=v.elem_offset // lanes % units.operand_entries,
                    size=lanes,
                    size_bytes=scope.column_bytes,
                )
            )
            v[0, every] = T.Cast(f"{types.element}x{lanes}", x[0, every])

    return register_intrinsic(units.name("write"), description, implementation)


def move_out(units: Units, address: int) -> str:
    """Return the name of MV_SB of one slot: base die memory = the registers of its units.

    The base die's buffer begins at element `address` of its memory.
    """
    scope, types = units.scope, units.types
    lanes, shape = scope.lanes, scope.register
    every = T.ramp(0, 1, lanes)

    @T.prim_func(s_tir=True)
    def description(p_: T.handle, y_: T.handle):
        p = T.match_buffer(p_, shape, types.register, offset_factor=1, scope=REGISTER)
        y = T.match_buffer(y_, shape, "float32", offset_factor=1, scope=BASE)
        with T.sblock("root"):
            T.reads(whole(p, shape))
            T.writes(whole(y, shape))
            for loops in T.grid(*scope.loops, lanes):
                with T.sblock("move"):
                    at = T.meta_var(remap(loops))
                    i = T.meta_var(scope.in_register(at, at[-1]))
                    y[i] = T.Cast("float32", p[i])

    @T.prim_func(s_tir=True)
    def implementation(p_: T.handle, y_: T.handle):
        p = T.match_buffer(
            p_, shape, types.register, offset_factor=1, scope=REGISTER, strides=strides(shape)
        )
        y = T.match_buffer(
            y_, shape, "float32", offset_factor=1, scope=BASE, strides=strides(shape)
        )
        with T.sblock("root"):
            T.reads(whole(p, shape))
            T.writes(whole(y, shape))
            T.evaluate(
                command(
                    Op.MV_SB,
                    **scope.slot_fields(p.elem_offset),
                    dst=units.register_of(p.elem_offset),
                    address=address + y.elem_offset,
                    size=scope.num_units * lanes,
                    size_bytes=scope.num_units * lanes * 4,
                    flags=LANES | START,
                )
            )
            for at in T.grid(*scope.unit_loops):
                i = T.meta_var(scope.in_register(at, every))
                y[i] = T.Cast(f"float32x{lanes}", p[i])

    return register_intrinsic(units.name(f"move.{address}"), description, implementation)


def remap(loops: Any) -> tuple[Any, ...]:
    """Return block variables for the loops, spatial all, of a block that is being written."""
    variables = list(loops) if isinstance(loops, Sequence) else [loops]
    bound = T.axis.remap("S" * len(variables), variables)
    return tuple(bound) if isinstance(bound, Sequence) else (bound,)


def whole(buffer: Any, shape: tuple[int, ...]) -> Any:
    """Return the region of a whole buffer."""
    return buffer[tuple(slice(0, extent) for extent in shape)]


def strides(shape: tuple[int, ...]) -> list[Any]:
    """Return strides that are found out where an intrinsic is put to use."""
    return [tirx.Var(f"stride_{axis}", "int32") for axis in range(len(shape))]


def register_intrinsic(name: str, description: Any, implementation: Any) -> str:
    """Register an intrinsic, again if it is there, and return its name."""
    TensorIntrin.register(name, description, implementation, override=True)
    return name
