"""From type expressions to types, within one file."""

from __future__ import annotations

import re
import warnings
from functools import lru_cache

from tokenloom.compiler.diagnostics import suggest
from tokenloom.compiler.frontend import syntax as s
from tokenloom.compiler.frontend.check_session import Session, help_note
from tokenloom.compiler.frontend.checked import (
    AgentSymbol,
    CheckedModule,
    ConstSymbol,
    GlobalSymbol,
    ImportSymbol,
    TypeSymbol,
)
from tokenloom.compiler.frontend.types import (
    BOOL,
    FLOAT,
    INT,
    NEVER,
    TEXT,
    EnumType,
    IntType,
    ListType,
    OptionalType,
    RecordType,
    TextType,
    Type,
    optional,
)

BASIC = {"text": TEXT, "int": INT, "float": FLOAT, "bool": BOOL}
MAX_TYPE_SIZE = 200
"""Parts that a type may have, aliases written out: nobody reads more."""


class TypeResolver:
    """Resolves types; named types are resolved when first needed.

    `used` collects the names of the file that were used, by whoever uses them.
    """

    def __init__(self, session: Session, module: CheckedModule) -> None:
        self.session = session
        self.module = module
        self.pending: dict[str, s.TypeDecl] = {}
        self.open: list[str] = []
        self.used: set[str] = set()

    def resolve(self, node: s.TypeExpr) -> Type:
        """Return the type, and record it; an error is reported and gives the unknown type."""
        found = self._resolve(node)
        self.session.tables.type_exprs[node] = found
        return found

    def _resolve(self, node: s.TypeExpr) -> Type:
        match node:
            case s.NamedType():
                return self._named(node)
            case s.ListTypeExpr():
                return ListType(self.resolve(node.item))
            case s.OptionalTypeExpr():
                return optional(self.resolve(node.item))
            case s.RecordTypeExpr():
                return self._record(node)
            case s.UnionType():
                return self._union(node)
            case s.RangeType():
                return self._range(node)
            case s.LimitedType():
                return self._limited(node)
            case s.PatternType() | s.SecretType():
                return self._refined_text(node)

    def _error(self, message: str, node: s.Node, help_: str = "") -> Type:
        self.session.error(message, node, help_note(help_) if help_ else ())
        return NEVER

    # --- names

    def _named(self, node: s.NamedType) -> Type:
        name = node.name.name
        if node.qualifier is not None:
            return self._imported(node, node.qualifier)
        if name in BASIC:
            return BASIC[name]
        if name in self.pending:
            self.resolve_declaration(self.pending[name])
        return self._symbol_type(node, self.module.symbols.get(name), self.module)

    def _imported(self, node: s.NamedType, qualifier: s.Identifier) -> Type:
        owner = self.module.symbols.get(qualifier.name)
        if not isinstance(owner, ImportSymbol):
            if qualifier.name in self.module.broken_imports:
                return NEVER
            return self._error(f"`{qualifier.name}` is no import", qualifier)
        self.used.add(qualifier.name)
        symbol = owner.target.symbols.get(node.name.name)
        return self._symbol_type(node, symbol, owner.target)

    def _symbol_type(
        self, node: s.NamedType, symbol: GlobalSymbol | None, module: CheckedModule
    ) -> Type:
        name = node.name.name
        self.used.add(name)
        if isinstance(symbol, TypeSymbol | AgentSymbol):
            return symbol.type
        if symbol is not None:
            return self._error(f"`{name}` is not a type", node)
        if name in self.open:
            chain = " -> ".join([*self.open[self.open.index(name) :], name])
            return self._error(f"type `{name}` contains itself: {chain}", node)
        types = [n for n, x in module.symbols.items() if isinstance(x, TypeSymbol | AgentSymbol)]
        self.session.error(f"unknown type `{name}`", node, suggest(name, [*types, *BASIC]))
        return NEVER

    def resolve_declaration(self, decl: s.TypeDecl) -> None:
        """Resolve a named type, and those it needs before it."""
        name = decl.name.name
        self.pending.pop(name)
        if len(self.open) > MAX_DEPTH:
            self._error("types are nested too deeply", decl.name)
            return
        self.open.append(name)
        found = self.resolve(decl.type)
        self.open.pop()
        if type_size(found) > MAX_TYPE_SIZE:
            self._error(f"type `{name}` has more than {MAX_TYPE_SIZE} parts", decl.name)
            found = NEVER
        prefix = f"{self.module.prefix}." if self.module.prefix else ""
        self.module.symbols[name] = TypeSymbol(name, prefix + name, self.module, decl, found)

    # --- structure

    def _record(self, node: s.RecordTypeExpr) -> Type:
        fields: dict[str, Type] = {}
        for field in node.fields:
            if field.name.name in fields:
                self._error(f"field `{field.name.name}` is declared twice", field.name)
            fields[field.name.name] = self.resolve(field.type)
        return RecordType(tuple(fields.items()))

    def _union(self, node: s.UnionType) -> Type:
        values: dict[str, None] = {}
        for value in node.values:
            text = value.constant if isinstance(value, s.Text) else None
            if text is None:
                return self._error("a union is of constant texts", value, "or write `int(1..3)`")
            if text in values:
                self._error(f'"{text}" stands in this union twice', value)
            if not text:
                return self._error("a union cannot hold the empty text", value, "use `T?`")
            values[text] = None
        return EnumType(tuple(values))

    # --- refinements

    def _range(self, node: s.RangeType) -> Type:
        low, high = self.constant_int(node.low), self.constant_int(node.high)
        if self._base(node.base) != INT:
            return self._error("only `int` takes a range", node.base, "write `int(0..10)`")
        if low is None or high is None:
            return INT
        if low > high:
            return self._error(f"the range {low}..{high} is empty", node)
        return IntType(low, high)

    def _limited(self, node: s.LimitedType) -> Type:
        argument = node.arguments[0]
        if self._base(node.base) != TEXT:
            return self._error(f"`{node.base.name.name}` takes no arguments", node)
        if len(node.arguments) != 1 or argument.name is None or argument.name.name != "max":
            return self._error("`text` takes one argument, `max`", node, "write `text(max = 40)`")
        limit = self.constant_int(argument.value)
        if limit is not None and limit < 1:
            return self._error("the greatest length must be at least 1", argument.value)
        return TextType(max=limit)

    def _base(self, node: s.NamedType) -> Type | None:
        """Return the basic type of a name; a declared type takes no arguments."""
        return BASIC.get(node.name.name) if node.qualifier is None else None

    def _refined_text(self, node: s.PatternType | s.SecretType) -> Type:
        base = self.resolve(node.base)
        if not isinstance(base, TextType):
            what = "`secret`" if isinstance(node, s.SecretType) else "a regex"
            return base if base == NEVER else self._error(f"{what} is of `text` only", node)
        if isinstance(node, s.SecretType):
            return TextType(True, base.max, base.regex)
        try:
            compiled(node.regex)
        except (re.error, RecursionError, OverflowError) as error:
            return self._error(f"this regex is wrong: {error}", node)
        return TextType(base.secret, base.max, node.regex)

    def matches(self, regex: str, text: str) -> bool:
        """Whether a text is in the language of a regex that was resolved."""
        return compiled(regex).fullmatch(text) is not None

    def constant_int(self, node: s.Expr) -> int | None:
        """Return an integer known before any body is checked: a literal or a constant."""
        match node:
            case s.IntLiteral():
                return node.value
            case s.Unary(operator="-", operand=s.IntLiteral() as operand):
                return -operand.value
            case s.Name():
                symbol = self.module.symbols.get(node.name)
                self.used.add(node.name)
                if isinstance(symbol, ConstSymbol) and isinstance(symbol.value, int):
                    return symbol.value
            case _:
                pass
        self._error("an integer or a constant is expected", node)
        return None


MAX_DEPTH = 40
"""Named types that may be resolved inside of each other."""


@lru_cache(maxsize=256)
def compiled(regex: str) -> re.Pattern[str]:
    """Return the regex; raises `re.error`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.compile(regex)


def type_size(value: Type) -> int:
    """Return the number of parts of a type."""
    match value:
        case ListType(item) | OptionalType(item):
            return 1 + type_size(item)
        case RecordType(fields):
            return 1 + sum(type_size(field) for _, field in fields)
        case _:
            return 1
