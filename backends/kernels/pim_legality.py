# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false
"""Checks of a scheduled PIM function before it is built: what the units cannot do is named.

Before loops become commands: that all units of a command are in the same row and column, that rows
exist, and that registers and operand entries suffice. After: that commands alone touch the banks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import ir
from tvm.sym import Analyzer

from tokenloom.backends.device import DeviceError
from tokenloom.backends.kernels.pim_intrinsics import BANK, OPERAND, REGISTER
from tokenloom.backends.kernels.pim_record import is_command, s_tir, tirx
from tokenloom.kernel_spec import KernelSpec

_ROW, _COLUMN = 0, 2
_REDUCE = 2
"""`IterVar.CommReduce` of TVM: the kind of a block variable that is summed over."""

index_range: Any = ir.Range


@dataclass(frozen=True)
class Limits:
    """What there is: rows and columns of a bank, and what a unit holds."""

    rows: int
    columns: int
    registers: int
    operand_entries: int

    @classmethod
    def of(cls, spec: KernelSpec) -> Limits:
        """Take the limits out of a spec, see `pim/specs.py`."""
        names = "pim_rows", "columns", "unit_registers", "operand_entries"
        return cls(*(spec.dim(name) for name in names))


@dataclass(frozen=True)
class _Block:
    """An innermost block, and the loops around it: variable and extent, outermost first."""

    realize: Any
    loops: tuple[tuple[Any, int], ...]

    @property
    def name(self) -> str:
        return str(self.realize.block.name_hint)

    def regions(self, scope: str) -> Iterator[tuple[Any, list[Any]]]:
        """Yield the buffers that the block touches in a memory scope, and the first index."""
        block = self.realize.block
        for region in [*block.reads, *block.writes]:
            if region.source.scope() == scope:
                yield region.source, [axis.min for axis in region.region]

    def uses(self, expression: Any, loops: tuple[tuple[Any, int], ...]) -> list[tuple[Any, int]]:
        """Return those of `loops` that an expression depends on."""
        found = list(_variables(self.analyzer().simplify(expression)))
        return [loop for loop in loops if any(loop[0].same_as(node) for node in found)]

    def analyzer(self) -> Any:
        """Return an analyzer that knows how far the loops go, and the block's variables in them."""
        analyzer: Any = Analyzer()
        for variable, extent in self.loops:
            analyzer.bind(variable, index_range(0, extent))
        pairs = zip(self.realize.block.iter_vars, self.realize.iter_values, strict=True)
        for iteration, value in pairs:
            analyzer.bind(iteration.var, value)
        return analyzer


def check_schedule(function: Any, limits: Limits, taken: dict[str, int]) -> None:
    """Check loops before they are tensorized; `taken`: how many inner loops a command replaces.

    `taken` goes by the name of the block; other blocks are no commands. DeviceError: a command's
    units would be in different rows or columns, or rows, registers or operand entries run out.
    """
    blocks = list(_blocks(function.body, ()))
    _check_rows(function, limits)
    for block in blocks:
        if block.name in taken:
            inner = block.loops[len(block.loops) - taken[block.name] :]
            for buffer, index in block.regions(BANK):
                _check_lock_step(block, index, inner)
                _check_bounds(block, buffer, index, limits)
    for block in blocks:
        _check_registers(block, limits)
        _check_operands(block, blocks, limits)


def check_commands(function: Any) -> None:
    """Check a tensorized function. DeviceError: something but a command touches the banks."""
    for block in _blocks(function.body, ()):
        touched = any(True for _ in block.regions(BANK))
        if touched and not _has_command(block.realize.block.body):
            raise DeviceError(f"pim: block {block.name} touches the banks without a command")


def _check_lock_step(block: _Block, index: list[Any], inner: tuple[tuple[Any, int], ...]) -> None:
    for axis, what in ((_ROW, "row"), (_COLUMN, "column")):
        loops = block.uses(index[axis], inner)
        if loops:
            names = ", ".join(f"{variable.name} (of {extent})" for variable, extent in loops)
            raise DeviceError(
                f"pim: the units of one command must be in lock step, but the {what} that block"
                f" {block.name} touches changes with the loop {names} inside the command; put that"
                " loop outside"
            )


def _check_rows(function: Any, limits: Limits) -> None:
    banks = [p for p in function.params if hasattr(p, "scope") and p.scope() == BANK]
    needed = sum(int(buffer.shape[_ROW]) for buffer in banks)
    if needed > limits.rows:
        raise DeviceError(f"pim: {needed} rows are needed in each bank; there are {limits.rows}")


def _check_bounds(block: _Block, buffer: Any, index: list[Any], limits: Limits) -> None:
    rows = int(buffer.shape[_ROW])
    for axis, what, there in ((_ROW, "row", rows), (_COLUMN, "column", limits.columns)):
        last = int(block.analyzer().const_int_bound(index[axis]).max_value)
        if last >= there:
            raise DeviceError(
                f"pim: block {block.name} touches {what} {last}; there are {there}, from 0 on"
            )


def _check_registers(block: _Block, limits: Limits) -> None:
    """Count what lives at once: accumulators inside the outermost loop that adds to them."""
    kinds = block.realize.block.iter_vars
    values = block.realize.iter_values
    sums = [v for i, v in zip(kinds, values, strict=True) if i.iter_type == _REDUCE]
    adding = [loop for value in sums for loop in block.uses(value, block.loops)]
    places = [place for place, loop in enumerate(block.loops) if loop in adding]
    if not places:
        return
    inside = block.loops[places[0] :]
    for _, index in block.regions(REGISTER):
        live = prod(extent for _, extent in block.uses(index[0], inside))
        if live > limits.registers:
            raise DeviceError(
                f"pim: block {block.name} adds to {live} registers at once; a unit has"
                f" {limits.registers}; put the loop over outputs outside that over inputs, or split"
                " it"
            )


def _check_operands(block: _Block, blocks: list[_Block], limits: Limits) -> None:
    """Count what is written between two uses: entries over the loops that no reader shares."""
    written = [r.source for r in block.realize.block.writes if r.source.scope() == OPERAND]
    for buffer in written:
        readers = [
            b for b in blocks if any(r.source.same_as(buffer) for r in b.realize.block.reads)
        ]
        shared = [loop for reader in readers for loop in reader.loops]
        own = tuple(loop for loop in block.loops if loop not in shared)
        for _, index in block.regions(OPERAND):
            entries = prod(extent for _, extent in block.uses(index[0], own))
            if entries > limits.operand_entries:
                raise DeviceError(
                    f"pim: block {block.name} writes {entries} operand entries before their use;"
                    f" a unit has {limits.operand_entries}; write a tile of inputs at a time"
                )


def _blocks(statement: Any, loops: tuple[tuple[Any, int], ...]) -> Iterator[_Block]:
    """Yield the innermost blocks of a statement; a block with a command is one."""
    if isinstance(statement, tirx.For):
        yield from _blocks(statement.body, (*loops, (statement.loop_var, int(statement.extent))))
    elif isinstance(statement, tirx.SeqStmt):
        for part in statement.seq:
            yield from _blocks(part, loops)
    elif isinstance(statement, tirx.IfThenElse):
        for part in (statement.then_case, statement.else_case):
            if part is not None:
                yield from _blocks(part, loops)
    elif isinstance(statement, s_tir.SBlockRealize):
        inner = list(_blocks(statement.block.body, loops))
        yield from inner or [_Block(statement, loops)]


def _has_command(statement: Any) -> bool:
    if isinstance(statement, tirx.SeqStmt):
        return any(_has_command(part) for part in statement.seq)
    return is_command(statement)


def _variables(expression: Any) -> Iterator[Any]:
    """Yield the variables of an integer expression."""
    if isinstance(expression, tirx.Var):
        yield expression
    parts = [getattr(expression, name) for name in ("a", "b", "value") if hasattr(expression, name)]
    for part in [*parts, *getattr(expression, "args", [])]:
        yield from _variables(part)
