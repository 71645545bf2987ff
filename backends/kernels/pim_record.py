# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false
"""Splits a scheduled PIM function in two: what it computes, and the commands that do it.

The implementation of a PIM intrinsic says both: a call of `command` and the arithmetic on lanes.
`values` keeps the arithmetic; `commands` keeps the calls, with all loops, conditions and page
tables around them, and makes each append a record to a stream. It knows no operation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import tvm.s_tir
import tvm.tirx
from tvm.script import tirx as T

from tokenloom.backends.pim.streams.commands import ALL, FIELDS, WORDS, Op

MARK = "pim_command"
CONTROL = "local.pim_control"
"""The memory scope of what loops and conditions read beside page tables: kept in both functions."""
tirx: Any = tvm.tirx  # its annotations are narrower than what its constructors take
s_tir: Any = tvm.s_tir


def command(op: Op, **fields: Any) -> Any:
    """Return the expression of one command, to be evaluated inside an intrinsic.

    Fields are those of `commands.Command`; units that are not given are ALL, the rest 0.
    """
    units = {"channel", "pseudo_channel", "sid", "bank_group", "bank"}
    unknown = set(fields) - set(FIELDS[1:WORDS])
    if unknown:
        raise ValueError(f"a command has no field {', '.join(sorted(unknown))}")
    words = [fields.get(name, ALL if name in units else 0) for name in FIELDS[1:WORDS]]
    return T.call_extern("int32", MARK, int(op), *words)


def values(function: Any) -> Any:
    """Return the function without its commands."""
    return _with_body(function, _rewrite(function.body, _Values()), [])


def commands(function: Any) -> Any:
    """Return the function that writes commands instead of values.

    It takes two more buffers: `stream` int32 [capacity, WORDS] and `count` int32 [1], how many
    commands there are so far; those beyond the capacity are counted and not written.
    """
    return lowered(function, _Commands())


def lowered(function: Any, rule: CommandRule) -> Any:
    """Return the function that does what `rule` makes of each command, and computes no values."""
    return _with_body(function, _rewrite(function.body, rule), rule.added)


def _with_body(function: Any, body: Any, added: list[Any]) -> Any:
    """Return a function of the same name whose buffers `added` are the last, before its scalars."""
    params = list(function.params)
    buffers = [param for param in params if isinstance(param.ty, tirx.BufferType)]
    params = [*buffers, *added, *params[len(buffers) :]]
    return tirx.PrimFunc(params, body, function.ret_type, function.attrs)


class _Values:
    """Keeps stores, drops commands."""

    def leaf(self, statement: Any) -> Any | None:
        return None if is_command(statement) else statement

    def buffers(self, block: Any) -> tuple[list[Any], list[Any]]:
        """Keep the buffers of a block: its own, and those matched with parts of others."""
        return list(block.alloc_buffers), list(block.match_buffers)

    def bindings(self, block: Any) -> list[Any]:
        """Leave offsets to the passes that follow."""
        del block
        return []

    def kind(self, loop: Any) -> Any:
        return loop.kind


class CommandRule(ABC):
    """Makes something of each command; drops stores but those that control flow reads.

    Element offsets of matched buffers become those of the buffers they are part of, as declared:
    buffers that nothing reads or writes any more would be shrunk by later passes. `added` are the
    buffers that the function takes for it.
    """

    added: list[Any]

    @abstractmethod
    def made_of(self, words: list[Any]) -> Any:
        """Return the statement for a command of the given fields."""

    def leaf(self, statement: Any) -> Any | None:
        """Keep what decides which commands there are."""
        if is_command(statement):
            return self.made_of(list(statement.value.args)[1:])
        return statement if _is_control(statement) else None

    def buffers(self, block: Any) -> tuple[list[Any], list[Any]]:
        """Keep what control flow reads."""
        return [buffer for buffer in block.alloc_buffers if buffer.scope() == CONTROL], []

    def bindings(self, block: Any) -> list[Any]:
        """Bind the element offsets of matched buffers."""
        return [
            tirx.Bind(offset, tirx.Cast(offset.ty.dtype, _offset(match.source)))
            for match in block.match_buffers
            if isinstance(offset := match.buffer.elem_offset, tirx.Var)
        ]

    def kind(self, loop: Any) -> Any:
        """Run all loops in order."""
        del loop
        return tirx.ForKind.SERIAL


class _Commands(CommandRule):
    """Turns commands into records of a stream."""

    def __init__(self) -> None:
        self.capacity = tirx.Var("capacity", "int32")
        self.stream = tirx.decl_buffer((self.capacity, WORDS), "int32", "stream")
        self.count = tirx.decl_buffer((1,), "int32", "count")
        self.added = [self.stream, self.count]

    def made_of(self, words: list[Any]) -> Any:
        at = tirx.BufferLoad(self.count, [0])
        stores = [
            tirx.BufferStore(self.stream, tirx.Cast("int32", word), [at, index])
            for index, word in enumerate(words)
        ]
        write = tirx.IfThenElse(at < self.capacity, tirx.SeqStmt(stores), None)
        return tirx.SeqStmt([write, tirx.BufferStore(self.count, at + 1, [0])])


def is_command(statement: Any) -> bool:
    """Return whether a statement is a command that `command` made."""
    if not isinstance(statement, tirx.Evaluate):
        return False
    call = statement.value
    return hasattr(call, "args") and len(call.args) > 0 and str(call.args[0]).strip('"') == MARK


def _is_control(statement: Any) -> bool:
    return isinstance(statement, tirx.BufferStore) and statement.buffer.scope() == CONTROL


def _rewrite(statement: Any, rule: _Values | CommandRule) -> Any:
    """Return the statement with `rule` at its leaves; what is left empty is a no-op."""
    result = _visit(statement, rule)
    return tirx.Evaluate(0) if result is None else result


def _visit(statement: Any, rule: _Values | CommandRule) -> Any | None:
    for kind, visit in _VISITORS.items():
        if isinstance(statement, kind):
            return visit(statement, rule)
    return rule.leaf(statement)


def _visit_realize(realize: Any, rule: _Values | CommandRule) -> Any | None:
    block = realize.block
    allocated, matched = rule.buffers(block)
    body = _visit(block.body, rule)
    init = None if block.init is None else _visit(block.init, rule)
    if body is None and init is None:
        return None
    if bindings := rule.bindings(block):
        body = tirx.SeqStmt([*bindings, tirx.Evaluate(0) if body is None else body])
    kept = s_tir.SBlock(
        block.iter_vars,
        block.reads,
        block.writes,
        block.name_hint,
        tirx.Evaluate(0) if body is None else body,
        init,
        allocated,
        matched,
        block.annotations,
    )
    return s_tir.SBlockRealize(realize.iter_values, realize.predicate, kept)


def _offset(region: Any) -> Any:
    """Return the element offset of a region in its buffer, row by row as it was declared."""
    offset: Any = 0
    for extent, part in zip(region.source.shape, region.region, strict=True):
        offset = offset * extent + part.min
    return offset


def _visit_for(loop: Any, rule: _Values | CommandRule) -> Any | None:
    body = _visit(loop.body, rule)
    if body is None:
        return None
    kind = rule.kind(loop)
    return tirx.For(loop.loop_var, loop.min, loop.extent, kind, body, None, loop.annotations)


def _visit_sequence(sequence: Any, rule: _Values | CommandRule) -> Any | None:
    kept = [part for part in (_visit(part, rule) for part in sequence.seq) if part is not None]
    if not kept:
        return None
    return kept[0] if len(kept) == 1 else tirx.SeqStmt(kept)


def _visit_if(branch: Any, rule: _Values | CommandRule) -> Any | None:
    then, other = _visit(branch.then_case, rule), None
    if branch.else_case is not None:
        other = _visit(branch.else_case, rule)
    if then is None and other is None:
        return None
    return tirx.IfThenElse(branch.condition, tirx.Evaluate(0) if then is None else then, other)


_VISITORS: dict[Any, Callable[[Any, Any], Any | None]] = {
    s_tir.SBlockRealize: _visit_realize,
    tirx.For: _visit_for,
    tirx.SeqStmt: _visit_sequence,
    tirx.IfThenElse: _visit_if,
}
