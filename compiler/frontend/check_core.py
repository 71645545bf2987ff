"""The core of the checker of bodies: expressions by kind, and what names mean.

Each kind of expression is checked by a class of its own file; `Checker` puts them together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from tokenloom.compiler.diagnostics import Note, suggest
from tokenloom.compiler.frontend.check_scope import Roots, Scopes
from tokenloom.compiler.frontend.check_session import Session, help_note
from tokenloom.compiler.frontend.check_types import TypeResolver
from tokenloom.compiler.frontend.checked import (
    AgentSymbol,
    Binding,
    Builtin,
    CheckedModule,
    Constant,
    ConstSymbol,
    GlobalSymbol,
    ImportSymbol,
    Local,
    LocalKind,
    ModelSymbol,
    ToolSymbol,
    TypeSymbol,
    WorkflowSymbol,
)
from tokenloom.compiler.frontend.syntax import Block, Expr, Field, Identifier, Name, Node, Var
from tokenloom.compiler.frontend.types import (
    NEVER,
    AgentType,
    EnumType,
    IntType,
    ListType,
    NoneType,
    OptionalType,
    TextType,
    Type,
    fits,
)

BUILTINS = {name: Builtin(name) for name in ("len", "join")}
_CANNOT_BE_VALUES = {
    ModelSymbol: "a model",
    ToolSymbol: "a tool",
    TypeSymbol: "a type",
    WorkflowSymbol: "a workflow",
    ImportSymbol: "an import",
}
Handler = Callable[[Any, Type | None], Type]


def kind_of(binding: Binding) -> str:
    """Return what a name is, in words."""
    match binding:
        case Local():
            return f"a {binding.kind}"
        case Builtin():
            return "a function of the language"
        case AgentSymbol():
            return "an agent"
        case ConstSymbol():
            return "a constant"
        case _:
            return _CANNOT_BE_VALUES[type(binding)]


class Core(ABC):
    """State of the checker inside one declaration, and the dispatch over expressions."""

    def __init__(
        self, session: Session, module: CheckedModule, agents: dict[str, AgentSymbol]
    ) -> None:
        self.session = session
        self.tables = session.tables
        self.module = module
        self.agents = agents
        self.resolver = TypeResolver(session, module)
        self.scopes = Scopes()
        self.handlers: dict[type, Handler] = {}
        self.result: Type | None = None
        self.in_test = False
        self.checked_operands: dict[Expr, Type] = {}
        self.block_roots: dict[Block, Roots] = {}
        self.gathers_around = 0
        self.var_types: dict[Var, Type] = {}
        self.var_nodes: dict[Local, Var] = {}
        self.statement_checks: dict[type, Callable[[Any], None]] = {}

    def error(self, message: str, node: Node, notes: Iterable[Note] = ()) -> Type:
        """Report an error; returns the type that causes no further ones."""
        self.session.error(message, node, notes)
        return NEVER

    # --- expressions

    def check(self, expr: Expr, expected: Type | None = None) -> Type:
        """Return the type of an expression and record it; `expected` is a hint for literals."""
        found = self.handlers[type(expr)](expr, expected)
        if expected is not None and isinstance(found, TextType):
            found = self._fit_constant(expr, found, expected)
        self.tables.types[expr] = found
        if isinstance(found, IntType) and found.min is not None and found.min == found.max:
            self.tables.constants[expr] = found.min
        return found

    def expect(self, expr: Expr, target: Type, what: str) -> Type:
        """Check an expression that must fit into `target`; `what` names it in the message."""
        before = len(self.session.errors)
        found = self.check(expr, target)
        if not fits(found, target) and len(self.session.errors) == before:
            self.error(f"{what} must be {target}, not {found}", expr, self._why(found, target))
            return NEVER
        return found

    def constant(self, expr: Expr) -> Constant:
        """Return the value of a checked expression if it is known, else None."""
        return self.tables.constants.get(expr)

    def _why(self, found: Type, target: Type) -> tuple[Note, ...]:
        if isinstance(found, OptionalType | NoneType) and not isinstance(target, OptionalType):
            return help_note("it may be none: compare it with `none` first")
        if isinstance(found, TextType) and isinstance(target, TextType) and found.secret:
            return help_note("a secret goes only where `secret text` is declared")
        if isinstance(found, IntType) and isinstance(target, IntType):
            return help_note("the bounds must hold for every value it can take")
        return ()

    def _fit_constant(self, expr: Expr, found: TextType, target: Type) -> Type:
        """Give a constant text the type that is wanted, if its value belongs to it."""
        wanted = target.item if isinstance(target, OptionalType) else target
        value = self.tables.constants.get(expr)
        if not isinstance(value, str):
            return found
        if isinstance(wanted, EnumType):
            if value in wanted.values:
                return EnumType((value,))
            help_ = suggest(value, wanted.values)
            return self.error(f'"{value}" is none of {wanted}', expr, help_)
        if isinstance(wanted, TextType) and not found.secret:
            return self._fit_text(expr, value, found, wanted)
        return found

    def _fit_text(self, expr: Expr, value: str, found: TextType, wanted: TextType) -> Type:
        if wanted.max is not None and len(value) > wanted.max:
            count = f"{len(value)} code points"
            return self.error(f"this text has {count}, at most {wanted.max} are wanted", expr)
        if wanted.regex is not None and not self.resolver.matches(wanted.regex, value):
            return self.error(f"this text does not match /{wanted.regex}/", expr)
        return found if wanted.max is None and wanted.regex is None else wanted

    # --- names

    def binding_of(self, expr: Expr) -> Binding | None:
        """Return what a name or a name of an import is bound to; None for any other expression.

        An unknown name is reported and bound to nothing, too: see `is_reference`.
        """
        if isinstance(expr, Name):
            return self._lookup(expr)
        if isinstance(expr, Field) and isinstance(expr.value, Name):
            owner = self.scopes.names.get(expr.value.name) or self.module.symbols.get(
                expr.value.name
            )
            if isinstance(owner, ImportSymbol):
                return self._lookup_imported(expr, owner)
        return None

    def is_reference(self, expr: Expr) -> bool:
        """Whether an expression is a name, or a name of an import."""
        if isinstance(expr, Field) and isinstance(expr.value, Name):
            name = expr.value.name
            symbol = None if name in self.scopes.names else self.module.symbols.get(name)
            return isinstance(symbol, ImportSymbol)
        return isinstance(expr, Name)

    def _lookup(self, name: Name) -> Binding | None:
        binding: Binding | None = self.scopes.names.get(name.name)
        if binding is None:
            binding = self.module.symbols.get(name.name) or BUILTINS.get(name.name)
        if binding is None:
            if name.name not in self.module.broken_imports:
                self._report_unknown(name)
            return None
        self.tables.names[name] = binding
        self.resolver.used.add(name.name)
        return binding

    def _report_unknown(self, name: Name) -> None:
        if name.name in ("others", "round"):
            notes = help_note(f"`{name.name}` exists inside the body of a `gather`")
        else:
            notes = suggest(name.name, [*self.scopes.names, *self.module.symbols, *BUILTINS])
        self.error(f"unknown name `{name.name}`", name, notes)

    def _lookup_imported(self, field: Field, owner: ImportSymbol) -> GlobalSymbol | None:
        assert isinstance(field.value, Name)
        self.tables.names[field.value] = owner
        self.resolver.used.add(owner.name)
        symbol = owner.target.symbols.get(field.name.name)
        if symbol is None or isinstance(symbol, ImportSymbol):
            known = suggest(field.name.name, owner.target.symbols)
            self.error(f"`{owner.name}` has no `{field.name.name}`", field.name, known)
            return None
        self.tables.fields[field] = symbol
        return symbol

    def check_reference(self, expr: Name | Field, expected: Type | None) -> Type:
        """Return the type of a name that is used as a value."""
        binding = self.binding_of(expr)
        match binding:
            case None:
                return NEVER
            case Local():
                return self._read(expr, binding)
            case ConstSymbol():
                self.tables.constants[expr] = binding.value
                return binding.type
            case AgentSymbol():
                return self._bare_agent(expr, binding)
            case ToolSymbol() | WorkflowSymbol() | Builtin():
                name = expr.name if isinstance(expr, Name) else expr.name.name
                help_ = help_note(f"call it: `{name}(...)`")
                return self.error(f"`{name}` is {kind_of(binding)}, not a value", expr, help_)
            case _:
                return self.error(f"{kind_of(binding)} is not a value", expr)

    def _read(self, expr: Expr, local: Local) -> Type:
        self.scopes.read(local)
        if local in self.scopes.constants:
            self.tables.constants[expr] = self.scopes.constants[local]
        return self.scopes.narrowed.get(local, local.type)

    def _bare_agent(self, expr: Expr, symbol: AgentSymbol) -> Type:
        if symbol.parameters:
            names = ", ".join(parameter.name for parameter in symbol.parameters)
            help_ = help_note(f"make an instance: `{symbol.name}({names})`")
            return self.error(f"agent `{symbol.name}` takes parameters", expr, help_)
        self.scopes.bare_agents[symbol] = None
        return symbol.type

    def declare(self, name: Identifier, kind: LocalKind, type_: Type, node: object) -> Local:
        """Declare a local that the program names; no name is declared twice."""
        earlier = self.scopes.names.get(name.name)
        symbol = self.module.symbols.get(name.name) or BUILTINS.get(name.name)
        if earlier is not None:
            notes = [Note(f"`{name.name}` is declared here", earlier.span)]
            self.error(f"`{name.name}` is declared already", name, notes)
        elif symbol is not None:
            help_ = help_note("take another name")
            self.error(f"`{name.name}` is {kind_of(symbol)}", name, help_)
        local = Local(name.name, kind, type_, name.span, self.scopes.depth)
        self.scopes.declare(local)
        self.tables.variables[node] = local
        return local

    # --- agents

    @abstractmethod
    def roots(self, expr: Expr) -> Roots:
        """Return where the agents in the value of a checked expression come from."""

    @abstractmethod
    def check_block(self, block: Block) -> None:
        """Check the statements of a block in the current body."""

    @abstractmethod
    def check_value_block(self, block: Block) -> Type:
        """Check a block whose last statement is its value."""

    def agents_of(self, type_: Type) -> tuple[AgentSymbol, ...]:
        """Return the declarations of an agent type."""
        names = type_.names if isinstance(type_, AgentType) else ()
        return tuple(self.agents[name] for name in names)

    def item_of(self, expr: Expr, what: str) -> Type:
        """Check an expression that must be a list; returns the type of its items."""
        found = self.check(expr)
        if isinstance(found, ListType):
            return found.item
        if found is not NEVER:
            help_ = self._why(found, ListType(NEVER))
            self.error(f"{what} must be a list, not {found}", expr, help_)
        return NEVER

    def items_of_body(self, expr: Expr, what: str) -> Type:
        """Check the list that a body runs over; one that is always empty is an error."""
        item = self.item_of(expr, what)
        if item == NEVER and not self.session.errors:
            self.error(f"{what} is always empty: the body is never reached", expr)
        return item

    def bound_of(self, expr: Expr, what: str) -> IntType:
        """Check a count that must be finite; returns its interval, both bounds known."""
        found = self.check(expr)
        if not isinstance(found, IntType):
            if found != NEVER:
                self.error(f"{what} must be int, not {found}", expr)
            return IntType(0, 1)
        if found.max is None or found.min is None:
            help_ = help_note("take a constant, or a parameter like `n: int(1..8)`")
            self.error(f"{what} has no bound", expr, help_)
            return IntType(0, 1)
        if found.min < 0:
            self.error(f"{what} may be negative: {found}", expr)
        return found
