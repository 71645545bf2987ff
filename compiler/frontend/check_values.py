"""Checks of literals, texts, lists, records, fields and indices."""

from __future__ import annotations

from tokenloom.compiler.diagnostics import suggest
from tokenloom.compiler.frontend import syntax as s
from tokenloom.compiler.frontend.check_core import Core
from tokenloom.compiler.frontend.check_session import help_note
from tokenloom.compiler.frontend.types import (
    BOOL,
    FLOAT,
    NEVER,
    NONE,
    TEXT,
    AgentType,
    IntType,
    ListType,
    NeverType,
    OptionalType,
    RecordType,
    TextType,
    Type,
    contains_agent,
    contains_secret,
    join,
)


class ValueChecks(Core):
    """Expressions that make values and take them apart."""

    def _literal(self, expr: s.Literal, expected: Type | None) -> Type:
        match expr:
            case s.IntLiteral():
                return IntType(expr.value, expr.value)
            case s.FloatLiteral():
                self.tables.constants[expr] = expr.value
                return FLOAT
            case s.BoolLiteral():
                self.tables.constants[expr] = expr.value
                return BOOL
            case s.NoneLiteral():
                self.tables.constants[expr] = None
                return NONE
            case s.Text():
                return self._text(expr)

    def _no_value(self, expr: s.Duration | s.Percentage, expected: Type | None) -> Type:
        what = "a duration" if isinstance(expr, s.Duration) else "a percentage"
        return self.error(f"{what} stands only in settings and attributes", expr)

    def _text(self, expr: s.Text) -> Type:
        secret = False
        for piece in expr.pieces:
            if isinstance(piece, s.Interpolation):
                secret |= contains_secret(self.check_printable(piece.value))
        constant = expr.constant
        if constant is not None:
            self.tables.constants[expr] = constant
        return TextType(secret) if secret else TEXT

    def check_printable(self, expr: s.Expr) -> Type:
        """Check an expression that is turned into text."""
        found = self.check(expr)
        if contains_agent(found):
            help_ = help_note("interpolate one of its parameters, or what it answered")
            return self.error("an agent is not text", expr, help_)
        return found

    def _list(self, expr: s.ListExpr, expected: Type | None) -> Type:
        wanted = expected.item if isinstance(expected, OptionalType) else expected
        hint = wanted.item if isinstance(wanted, ListType) else None
        item: Type = NEVER
        for value in expr.items:
            found = self.check(value, hint)
            joined = join(item, found)
            if joined is None:
                self.error(f"this list has {item} before this {found}", value)
            else:
                item = joined
        return ListType(item)

    def _record(self, expr: s.RecordExpr, expected: Type | None) -> Type:
        wanted = expected.item if isinstance(expected, OptionalType) else expected
        fields: dict[str, Type] = {}
        for field in expr.fields:
            name = field.name.name
            if name in fields:
                self.error(f"field `{name}` is given twice", field.name)
            hint = wanted.field(name) if isinstance(wanted, RecordType) else None
            if isinstance(wanted, RecordType) and hint is None:
                known = suggest(name, [known for known, _ in wanted.fields])
                self.error(f"{wanted} has no field `{name}`", field.name, known)
            if hint is None:
                fields[name] = self.check(field.value)
            else:
                fields[name] = self.expect(field.value, hint, f"field `{name}`")
        if isinstance(wanted, RecordType):
            self._check_missing(expr, fields, wanted)
        return RecordType(tuple(fields.items()))

    def _check_missing(self, expr: s.Expr, fields: dict[str, Type], wanted: RecordType) -> None:
        for name, type_ in wanted.fields:
            if name not in fields and not isinstance(type_, OptionalType):
                self.error(f"field `{name}` is missing, {type_}", expr)

    def _field(self, expr: s.Field, expected: Type | None) -> Type:
        if self.is_reference(expr):
            return self.check_reference(expr, expected)
        owner = self.check(expr.value)
        name = expr.name.name
        match owner:
            case RecordType():
                found = owner.field(name)
                known = [field for field, _ in owner.fields]
            case AgentType():
                found = self._parameter_type(owner, name)
                known = self._shared_parameters(owner)
            case NeverType():
                return NEVER
            case OptionalType():
                help_ = help_note("compare it with `none` first: `if x != none { ... }`")
                return self.error(f"{owner} may be none, so it has no fields", expr.value, help_)
            case _:
                return self.error(f"{owner} has no fields", expr.name)
        if found is None:
            notes = suggest(name, known) or help_note("it has " + ", ".join(known) if known else "")
            what = "agent " if isinstance(owner, AgentType) else ""
            return self.error(f"{what}{owner} has no `{name}`", expr.name, notes if known else ())
        return found

    def _parameter_type(self, owner: AgentType, name: str) -> Type | None:
        """Return the type of a parameter that all agents of the type share."""
        types: set[Type | None] = set()
        for agent in self.agents_of(owner):
            types.add(next((p.type for p in agent.parameters if p.name == name), None))
        return types.pop() if len(types) == 1 else None

    def _shared_parameters(self, owner: AgentType) -> list[str]:
        first, *_ = self.agents_of(owner)
        names = [parameter.name for parameter in first.parameters]
        return [name for name in names if self._parameter_type(owner, name) is not None]

    def _index(self, expr: s.Index, expected: Type | None) -> Type:
        item = self.item_of(expr.value, "what is indexed")
        index = self.check(expr.index)
        if not isinstance(index, IntType | NeverType):
            return self.error(f"an index must be int, not {index}", expr.index)
        constant = self.constant(expr.index)
        if contains_agent(item) and constant is None and isinstance(index, IntType):
            help_ = help_note("use `gather`, `map` or `for` to ask each of them")
            return self.error("the index of a list of agents must be constant", expr.index, help_)
        items = self.visible_items(expr.value)
        if items is not None and isinstance(constant, int):
            size = len(items)
            if not -size <= constant < size:
                return self.error(f"index {constant} is outside of a list of {size}", expr.index)
        return item

    def visible_items(self, expr: s.Expr) -> tuple[s.Expr, ...] | None:
        """Return the items of a list that is written out, here or in a `let`."""
        if isinstance(expr, s.Name):
            local = self.scopes.names.get(expr.name)
            value = self.scopes.values.get(local) if local is not None else None
            return value.items if isinstance(value, s.ListExpr) else None
        return expr.items if isinstance(expr, s.ListExpr) else None
