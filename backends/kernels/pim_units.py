# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false
# The parameters of macros are buffers and expressions of the script; they have no Python types.
"""The tensor intrinsics of attention: what all units that a command reaches do with a column.

MAC_TREE multiplies a column of K with the queries and adds its lanes up; MAC_LANES multiplies a
column of V with one probability and adds lane by lane. Each has a description, which TVM matches
with the block that a schedule tensorizes, and an implementation with both the commands, one for
each query head, and their arithmetic: FP16, rounded after every multiply and add. Which register,
operand entry and place a command names follows from the element offsets of the buffers it works
on. It knows nothing of pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from tokenloom.backends.kernels.pim_fold import WIDTHS, folded, order_of_units, rounded
from tokenloom.backends.kernels.pim_plan import AttentionPlan
from tokenloom.backends.kernels.pim_record import command
from tokenloom.backends.kernels.vector import LANES, constant, lanes, spread
from tokenloom.backends.pim.streams.commands import START, Op

BANK = "global.pim_bank"
REGISTER = "local.pim_register"
OPERAND = "local.pim_operand"
BASE = "local.pim_base"
"""Memory scopes: columns of banks, accumulators, operand buffers, a task's base die memory."""

Expr = Any
_ORDER = order_of_units()


def _axes(kinds: str, extents: Sequence[int], loops: Sequence[Expr]) -> list[Expr]:
    """Bind the axes of a block to its loops; an axis of one is no axis, as TVM drops it."""
    make = {"S": T.axis.spatial, "R": T.axis.reduce}
    triples = zip(kinds, extents, loops, strict=True)
    return [make[kind](extent, loop) if extent > 1 else 0 for kind, extent, loop in triples]


def _whole(buffer: Expr, shape: Sequence[int]) -> Expr:
    """Return a buffer's region of all elements."""
    return buffer[tuple(slice(0, extent) for extent in shape)]


def _strides(count: int, dtype: str = "int32") -> list[Expr]:
    return [T.int64() if dtype == "int64" else T.int32() for _ in range(count)]


def _unit(plan: AttentionPlan, unit: Expr) -> tuple[Expr, Expr, Expr]:
    """Return bank, pseudo channel and bank group of a unit that a command makes work."""
    slots = plan.shape.pseudo_channels * plan.groups
    return unit // slots, unit // plan.groups % plan.shape.pseudo_channels, unit % plan.groups


def _add_trees(
    plan: AttentionPlan, count: int, first: Expr, buffers: tuple[Expr, Expr, Expr]
) -> None:
    """Add to the scores what `count` units from unit `first` on, at most 16, make of a column.

    Units are counted as the scores of a query head lie: by bank, pseudo channel, bank group. It
    builds statements: its loops over vectors are of Python, so that they are unrolled.
    """
    k, q, s = buffers
    units = [_unit(plan, first + _ORDER[n]) for n in range(LANES)]
    used = [n for n in range(LANES) if _ORDER[n] < count]
    with T.sblock("trees"):
        wide = T.sblock_alloc_buffer((LANES, LANES), "float32", scope="local")
        tree = T.sblock_alloc_buffer((LANES, LANES), "float32", scope="local")
        for n in used:
            bank, channel, group = units[n]
            column = T.Cast("float32x16", k[channel, group, bank, lanes(0)])
            T.buffer_store(wide, column, [n, lanes(0)])
        with T.serial(0, plan.heads) as head:
            for n in range(LANES):
                products = constant(0.0)
                if n in used:
                    operand = T.Cast("float32x16", q[head, units[n][0], lanes(0)])
                    products = rounded(wide[n, lanes(0)] * operand)
                T.buffer_store(tree, products, [n, lanes(0)])
            for width in WIDTHS:
                for n in range(width):
                    sums = folded(tree[n, lanes(0)], tree[n + width, lanes(0)], width)
                    T.buffer_store(tree, sums, [n, lanes(0)])
            _add_lanes(plan, count, first, (head, tree, s))


def _add_lanes(
    plan: AttentionPlan, count: int, first: Expr, buffers: tuple[Expr, Expr, Expr]
) -> None:
    """Add the sums of the trees, a lane for each unit, to the scores of a query head."""
    head, tree, s = buffers
    if count == LANES:
        bank, channel, group = _unit(plan, first)
        at = (head, bank, channel, T.ramp(group, 1, LANES))
        total = T.Cast("float32x16", s[at]) + tree[0, lanes(0)]
        T.buffer_store(s, T.Cast("float16x16", total), list(at))
        return
    for n in range(count):
        at = (head, *_unit(plan, first + n))
        total = T.Cast("float32", s[at]) + tree[0, n]
        T.buffer_store(s, T.Cast("float16", total), list(at))


def mac_tree(plan: AttentionPlan) -> str:
    """Register the intrinsic of scores and return its name.

    Scores are indexed [query head, bank, pseudo channel, bank group], the column [pseudo channel,
    bank group, bank, lane] and queries [query head, bank, lane].
    """
    heads, banks, groups = plan.heads, plan.banks, plan.groups
    channels = plan.shape.pseudo_channels
    column, operand = (channels, groups, banks, LANES), (heads, banks, LANES)
    register = (heads, banks, channels, groups)
    extents = (heads, channels, groups, banks, LANES)

    @T.prim_func(s_tir=True)
    def description(k_: T.handle, q_: T.handle, s_: T.handle):
        offset = T.int64()
        k = T.match_buffer(k_, column, "float16", elem_offset=offset, offset_factor=1, scope=BANK)
        q = T.match_buffer(q_, operand, "float16", offset_factor=1, scope=OPERAND)
        s = T.match_buffer(s_, register, "float16", offset_factor=1, scope=REGISTER)
        with T.sblock("root"):
            T.reads(_whole(s, register), _whole(k, column), _whole(q, operand))
            T.writes(_whole(s, register))
            for loops in T.grid(*extents):
                with T.sblock("mac_tree"):
                    at = T.meta_var(_axes("SSSSR", extents, loops))
                    unit = T.meta_var((at[0], at[3], at[1], at[2]))
                    s[unit] = s[unit] + k[at[1], at[2], at[3], at[4]] * q[at[0], at[3], at[4]]

    @T.prim_func(s_tir=True)
    def implementation(k_: T.handle, q_: T.handle, s_: T.handle):
        offset = T.int64()
        k = T.match_buffer(
            k_,
            column,
            "float16",
            elem_offset=offset,
            offset_factor=1,
            strides=_strides(4, "int64"),
            scope=BANK,
        )
        q = T.match_buffer(
            q_, operand, "float16", offset_factor=1, strides=_strides(3), scope=OPERAND
        )
        s = T.match_buffer(
            s_, register, "float16", offset_factor=1, strides=_strides(4), scope=REGISTER
        )
        with T.sblock("root"):
            T.reads(_whole(s, register), _whole(k, column), _whole(q, operand))
            T.writes(_whole(s, register))
            for head in T.serial(heads):
                T.evaluate(_mac_tree_command(plan, head, k, q, s))
            filled = T.meta_var(_filled_banks(plan, _query_pass(plan, q)))
            slots = T.meta_var(channels * groups)
            if plan.units % LANES > 0:
                for block in T.serial(plan.units // LANES):
                    _add_trees(plan, LANES, block * LANES, (k, q, s))
                whole = T.meta_var(plan.units // LANES * LANES)
                _add_trees(plan, plan.units % LANES, whole, (k, q, s))
            else:
                for block in T.serial((filled * slots + LANES - 1) // LANES):
                    _add_trees(plan, LANES, block * LANES, (k, q, s))

    return _register("mac_tree", plan, description, implementation)


def mac_lanes(plan: AttentionPlan) -> str:
    """Register the intrinsic of context and return its name.

    Sums are indexed [query head, pseudo channel, bank group, bank, lane], the column [pseudo
    channel, bank group, bank, lane] and probabilities [query head, pseudo channel, bank group].
    """
    heads, banks, groups = plan.heads, plan.banks, plan.groups
    channels = plan.shape.pseudo_channels
    column, operand = (channels, groups, banks, LANES), (heads, channels, groups)
    register = (heads, channels, groups, banks, LANES)
    extents = (heads, channels, groups, banks, LANES)

    @T.prim_func(s_tir=True)
    def description(v_: T.handle, w_: T.handle, c_: T.handle):
        offset = T.int64()
        v = T.match_buffer(v_, column, "float16", elem_offset=offset, offset_factor=1, scope=BANK)
        w = T.match_buffer(w_, operand, "float16", offset_factor=1, scope=OPERAND)
        c = T.match_buffer(c_, register, "float16", offset_factor=1, scope=REGISTER)
        with T.sblock("root"):
            T.reads(_whole(c, register), _whole(v, column), _whole(w, operand))
            T.writes(_whole(c, register))
            for loops in T.grid(*extents):
                with T.sblock("mac_lanes"):
                    at = T.meta_var(_axes("SSSSS", extents, loops))
                    c[at] = c[at] + v[at[1:]] * w[at[:3]]

    @T.prim_func(s_tir=True)
    def implementation(v_: T.handle, w_: T.handle, c_: T.handle):
        offset = T.int64()
        v = T.match_buffer(
            v_,
            column,
            "float16",
            elem_offset=offset,
            offset_factor=1,
            strides=_strides(4, "int64"),
            scope=BANK,
        )
        w = T.match_buffer(
            w_, operand, "float16", offset_factor=1, strides=_strides(3), scope=OPERAND
        )
        c = T.match_buffer(
            c_, register, "float16", offset_factor=1, strides=_strides(5), scope=REGISTER
        )
        with T.sblock("root"):
            T.reads(_whole(c, register), _whole(v, column), _whole(w, operand))
            T.writes(_whole(c, register))
            for head in T.serial(heads):
                T.evaluate(_mac_lanes_command(plan, head, v, w, c))
            filled = T.meta_var(_filled_banks(plan, _context_pass(plan, c)))
            for channel, group, bank, head in T.grid(channels, groups, filled, heads):
                c[head, channel, group, bank, lanes(0)] = c[
                    head, channel, group, bank, lanes(0)
                ] + v[channel, group, bank, lanes(0)] * spread(w[head, channel, group])

    return _register("mac_lanes", plan, description, implementation)


def _query_pass(plan: AttentionPlan, q: Expr) -> Expr:
    """Return which of a token's columns the queries are for."""
    return q.elem_offset // (plan.heads * plan.shape.banks * LANES)


def _context_pass(plan: AttentionPlan, c: Expr) -> Expr:
    """Return which of a token's columns the sums are of."""
    return c.elem_offset // (plan.heads * plan.shape.slots * plan.shape.banks * LANES)


def _filled_banks(plan: AttentionPlan, number: Expr) -> Expr:
    """Return the banks that hold dimensions in a column; units add zeros in the others.

    That adds nothing to a sum that began with 0, so a processor leaves it out.
    """
    if plan.banks < plan.shape.banks or plan.shape.chunks % plan.shape.banks == 0:
        return plan.banks
    return T.min(plan.banks, plan.shape.chunks - number * plan.shape.banks)


def _mac_tree_command(plan: AttentionPlan, head: Expr, k: Expr, q: Expr, s: Expr) -> Expr:
    number = _query_pass(plan, q)
    step = s.elem_offset // (plan.heads * plan.shape.banks * plan.shape.slots)
    group = step // LANES
    odd = group // plan.page_steps % 2
    register = odd * plan.score_registers + head * plan.page_steps + group % plan.page_steps
    return command(
        Op.MAC_TREE,
        **plan.address.fields(k.elem_offset, plan.selected),
        dst=register,
        src=head * plan.passes + number,
        lane=step % LANES,
        size_bytes=plan.units * 2 * LANES,
        flags=T.Select(number == 0, START, 0),
    )


def _mac_lanes_command(plan: AttentionPlan, head: Expr, v: Expr, w: Expr, c: Expr) -> Expr:
    step = w.elem_offset // (plan.heads * plan.shape.slots)
    number = _context_pass(plan, c)
    return command(
        Op.MAC_LANES,
        **plan.address.fields(v.elem_offset, plan.selected),
        dst=plan.context_register + head * plan.passes + number,
        src=plan.weight_entry + head * plan.phase_entries + step // LANES,
        lane=step % LANES,
        size_bytes=plan.units * 2 * LANES,
        flags=T.Select(step == 0, START, 0),
    )


def _register(op: str, plan: AttentionPlan, description: Any, implementation: Any) -> str:
    """Register an intrinsic under a name that holds all it depends on."""
    sizes = (*vars(plan.shape).values(), *vars(plan.schedule).values())
    name = ".".join(["pim", op, *map(str, sizes)])
    TensorIntrin.register(name, description, implementation, override=True)
    return name
