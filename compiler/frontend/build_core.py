"""What all parts of the builder share: the point of insertion, places, constants, branches.

Each part registers how it builds a form of syntax; `value` and `statement` dispatch on it, so the
parts need not know each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Protocol, TypeVar

from xdsl.dialects.arith import ConstantOp
from xdsl.dialects.builtin import FloatAttr, IntegerAttr, LocationAttr, f64, i1, i64
from xdsl.dialects.scf import IfOp, YieldOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from tokenloom.compiler.diagnostics import CompileError, Note, file_location, unsupported
from tokenloom.compiler.frontend import syntax
from tokenloom.compiler.frontend.build_scope import Cell, RootScope, Scope
from tokenloom.compiler.frontend.checked import Checked, Constant, Local
from tokenloom.ir.text import TextAttr
from tokenloom.ir.types import TextType
from tokenloom.ir.values import NoneOp, TextOp


class Spanned(Protocol):
    """What has a place in the source."""

    @property
    def span(self) -> syntax.Span:
        """The stretch of source."""
        ...


OpT = TypeVar("OpT", bound=Operation)
TEXT = TextType()
_HINT = re.compile(r"[A-Za-z_][A-Za-z_0-9]*", re.ASCII)
MAX_DEPTH = 64
"""Regions inside of each other: xDSL prints and parses them by recursion."""
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, eq=False, slots=True)
class AgentRef:
    """One agent and where its history is: a cell, or one element of a cell that is a list."""

    agent: SSAValue
    history: Cell
    element: SSAValue | None = None


@dataclass(frozen=True, eq=False, slots=True)
class AgentList:
    """A list of agents that is written out; each keeps its own history."""

    items: tuple[AgentRef, ...]


@dataclass(frozen=True, eq=False, slots=True)
class AgentVector:
    """A list of agents that is made at run time, with the list of their histories."""

    agents: SSAValue
    histories: Cell


Agents = AgentRef | AgentList | AgentVector
Value = SSAValue | Agents
Form = Callable[[Any], Value]
Step = Callable[[Any], object]


class Core:
    """The state of building one program; parts register in `forms` and `steps`."""

    def __init__(self, checked: Checked) -> None:
        self.checked = checked
        self.forms: dict[type, Form] = {}
        self.steps: dict[type, Step] = {}
        self.bindings: dict[Local, Value | Cell] = {}
        self.root = RootScope(Block())
        self.scope: Scope = self.root
        self._prologue: Operation | None = None
        self._locations: dict[tuple[str, int, int], LocationAttr] = {}

    def start(self, block: Block) -> None:
        """Begin a new body that sees nothing of the one before."""
        self.root = RootScope(block)
        self.scope = self.root
        self.bindings = {}
        self._prologue = None

    def add_steps(self, steps: Mapping[type, Step]) -> None:
        """Register how statements are built."""
        self.steps.update(steps)

    def value(self, node: syntax.Expr) -> Value:
        """Build an expression at the point of insertion."""
        return self.forms[type(node)](node)

    def plain(self, node: syntax.Expr) -> SSAValue:
        """Build an expression that is no agent and holds none."""
        value = self.value(node)
        if not isinstance(value, SSAValue):
            raise unsupported(node, "an agent as a value")
        return value

    def statement(self, node: syntax.Statement) -> None:
        """Build a statement at the point of insertion."""
        self.steps[type(node)](node)

    def emit(self, op: OpT, node: syntax.Node, hint: str | None = None) -> OpT:
        """Append an op with the place of a node, and the name of its first result."""
        op.location = self.location(node)
        self.scope.block.add_op(op)
        if hint is not None:
            name(op.results[0], hint)
        return op

    def emit_first(self, op: OpT, node: syntax.Node, hint: str | None = None) -> OpT:
        """Put an op at the start of the workflow, behind those put there before."""
        op.location = self.location(node)
        block, last = self.root.block, self._prologue
        if last is not None:
            block.insert_op_after(op, last)
        elif block.first_op is not None:
            block.insert_op_before(op, block.first_op)
        else:
            block.add_op(op)
        self._prologue = op
        if hint is not None:
            name(op.results[0], hint)
        return op

    def location(self, node: Spanned) -> LocationAttr:
        """Return the start of a node as a location of IR."""
        key = node.span[:3]
        found = self._locations.get(key)
        if found is None:
            found = self._locations[key] = file_location(node.span)
        return found

    def place(self, node: Spanned) -> TextAttr:
        """Return `file:line:column`, without the folder: seeds must not depend on it."""
        span = node.span
        return TextAttr(f"{PurePath(span.path).name}:{span.line}:{span.column}")

    def integer(self, value: int, node: syntax.Node) -> SSAValue:
        """Return a constant integer."""
        if value not in _INT64:
            raise CompileError(f"{value} does not fit into 64 bits", node.span)
        return self.emit(ConstantOp(IntegerAttr(value, i64)), node).result

    def boolean(self, value: bool, node: syntax.Node) -> SSAValue:
        """Return `true` or `false`."""
        return self.emit(ConstantOp(IntegerAttr(int(value), i1)), node).result

    def boolean_first(self, value: bool, node: syntax.Node) -> SSAValue:
        """Return `true` or `false`, at the start of the workflow."""
        return self.emit_first(ConstantOp(IntegerAttr(int(value), i1)), node).result

    def constant(self, value: Constant, node: syntax.Node) -> SSAValue:
        """Return a value that is known at compile time."""
        match value:
            case bool():
                return self.boolean(value, node)
            case int():
                return self.integer(value, node)
            case float():
                return self.emit(ConstantOp(FloatAttr(value, f64)), node).result
            case str():
                return self.text(value, node)
            case None:
                return self.emit(NoneOp(), node).value

    def text(self, value: str, node: syntax.Node) -> SSAValue:
        """Return a constant text."""
        op = TextOp.create(properties={"value": TextAttr(value)}, result_types=[TEXT])
        return self.emit(op, node).text

    def branch(
        self,
        condition: SSAValue,
        then: Callable[[], None],
        otherwise: Callable[[], None],
        node: syntax.Node,
        *,
        result: Cell | None = None,
        is_final: bool = False,
    ) -> None:
        """Build an `scf.if`; every cell that a branch changes is a result of it.

        `result` is a new cell that both branches write and that this scope then has. With
        `is_final` nothing follows in this block, so what nobody can read is left out.
        """
        around = self.scope
        self.require_shallow(node)
        inner = [Scope(Block(), around, is_final=is_final) for _ in range(2)]
        for scope, build in zip(inner, (then, otherwise), strict=True):
            self.scope = scope
            build()
        cells = dict.fromkeys(cell for scope in inner for cell in scope.changed())
        if is_final:
            cells = {cell: None for cell in cells if not around.is_dead_after(cell)}
        for scope in inner:
            self.scope = scope
            self.emit(YieldOp(*[scope.read(cell) for cell in cells]), node)
        self.scope = around
        then_region, else_region = (Region(scope.block) for scope in inner)
        kinds = [cell.type for cell in cells]
        op = self.emit(IfOp(condition, kinds, then_region, else_region), node)
        if result is not None:
            around.declare(result)
        self.write_results(cells, op.output)

    def require_shallow(self, node: syntax.Node) -> None:
        """Raise CompileError where regions nest so deeply that printing them would not work."""
        if self.scope.depth >= MAX_DEPTH:
            notes = [
                Note("an `if` that returns nests all that follows it"),
                Note("set a `var` and return it at the end, or call a workflow", kind="help"),
            ]
            raise CompileError(f"nested more than {MAX_DEPTH} levels deep", node.span, notes)

    def choose(
        self,
        condition: SSAValue,
        then: Callable[[], SSAValue],
        otherwise: Callable[[], SSAValue],
        kind: Attribute,
        node: syntax.Node,
    ) -> SSAValue:
        """Build an `scf.if` whose branches each give a value of type `kind`; return it."""
        cell = Cell(None, kind)
        self.branch(
            condition,
            lambda: self.scope.write(cell, then()),
            lambda: self.scope.write(cell, otherwise()),
            node,
            result=cell,
        )
        return self.scope.read(cell)

    def write_results(self, cells: Sequence[Cell] | dict[Cell, None], results: Any) -> None:
        """Let cells have the results of an op, and the results their names."""
        for cell, value in zip(cells, results, strict=True):
            name(value, cell.hint)
            self.scope.write(cell, value)


def name(value: SSAValue, hint: str | None) -> None:
    """Give a value its name in the source, where IR can write it."""
    if hint is not None and _HINT.fullmatch(hint):
        value.name_hint = hint


def is_text(value: SSAValue) -> bool:
    """Whether a value is text."""
    return isinstance(value.type, TextType)
