"""Checks of operators, with the intervals of integer arithmetic."""

from __future__ import annotations

from itertools import product

from tokenloom.compiler.frontend import syntax as s
from tokenloom.compiler.frontend.check_core import Core
from tokenloom.compiler.frontend.check_session import help_note
from tokenloom.compiler.frontend.types import (
    BOOL,
    FLOAT,
    INT,
    NEVER,
    NONE,
    TEXT,
    EnumType,
    IntType,
    ListType,
    NeverType,
    OptionalType,
    TextType,
    Type,
    contains_agent,
    contains_secret,
    is_numeric,
    is_textual,
    join,
)

_INT_LIMIT = 2**63


class OperatorChecks(Core):
    """Unary and binary operators and comparisons."""

    def _unary(self, expr: s.Unary, expected: Type | None) -> Type:
        if expr.operator == "not":
            self.check_condition(expr.operand, "the operand of `not`")
            return BOOL
        found = self.check(expr.operand)
        if isinstance(found, IntType):
            if expr.operator == "+":
                return found
            return IntType(_negated(found.max), _negated(found.min))
        if not is_numeric(found):
            return self._wrong(expr, f"`{expr.operator}` takes numbers", found)
        value = self.constant(expr.operand)
        if isinstance(value, float):
            self.tables.constants[expr] = -value if expr.operator == "-" else value
        return found

    def _wrong(self, expr: s.Expr, message: str, *found: Type) -> Type:
        if NEVER in found:
            return NEVER
        help_ = ()
        if any(isinstance(one, OptionalType) for one in found):
            help_ = help_note("an optional must be compared with `none` first")
        return self.error(f"{message}, not {' and '.join(map(str, found))}", expr, help_)

    def check_condition(self, expr: s.Expr, what: str) -> None:
        """Check an expression that must be a bool."""
        found = self.check(expr)
        if found not in (BOOL, NEVER):
            help_ = help_note("compare it: `x == ...`, `len(xs) > 0`, `x != none`")
            self.error(f"{what} must be bool, not {found}", expr, help_)

    def _binary(self, expr: s.Binary, expected: Type | None) -> Type:
        if expr.operator in ("and", "or"):
            return self._logical(expr)
        hint = expected if expr.operator == "+" and isinstance(expected, ListType) else None
        left = self.check(expr.left, hint)
        right = self.check(expr.right, hint or (left if isinstance(left, ListType) else None))
        if isinstance(left, IntType) and isinstance(right, IntType):
            return self._integers(expr, left, right)
        if is_numeric(left) and is_numeric(right):
            return FLOAT
        if expr.operator == "+":
            return self._plus(expr, left, right)
        return self._wrong(expr, f"`{expr.operator}` takes numbers", left, right)

    def _logical(self, expr: s.Binary) -> Type:
        what = f"an operand of `{expr.operator}`"
        self.check_condition(expr.left, what)
        kept = dict(self.scopes.narrowed)
        self.narrow(expr.left, holds=expr.operator == "and")
        self.check_condition(expr.right, what)
        self.scopes.narrowed = kept
        return BOOL

    def narrow(self, condition: s.Expr, *, holds: bool) -> None:
        """Take from the types of names what a condition rules out: `x != none`."""
        match condition:
            case s.Unary(operator="not"):
                self.narrow(condition.operand, holds=not holds)
            case s.Binary(operator="and") if holds:
                self.narrow(condition.left, holds=True)
                self.narrow(condition.right, holds=True)
            case s.Binary(operator="or") if not holds:
                self.narrow(condition.left, holds=False)
                self.narrow(condition.right, holds=False)
            case s.Comparison(
                operands=(s.Name() as name, s.NoneLiteral()), operators=("!=" | "==" as operator,)
            ) if (operator == "!=") == holds:
                self._narrow_name(name)
            case _:
                pass

    def _narrow_name(self, name: s.Name) -> None:
        local = self.scopes.names.get(name.name)
        if local is not None and not local.is_var and isinstance(local.type, OptionalType):
            self.scopes.narrowed[local] = local.type.item

    def _integers(self, expr: s.Binary, left: IntType, right: IntType) -> Type:
        divides = expr.operator in ("/", "//", "%")
        if divides and right.min == right.max == 0:
            return self.error("this divides by zero", expr.right)
        if expr.operator == "/":
            return FLOAT
        if expr.operator in ("+", "-", "*"):
            return self._limited(expr, _interval(expr.operator, left, right))
        divisor = right.min if right.min == right.max else None
        if left.min is not None and left.min == left.max and divisor is not None:
            value = left.min // divisor if expr.operator == "//" else left.min % divisor
            return IntType(value, value)
        if expr.operator == "%" and right.min is not None and right.min > 0:
            return IntType(0, None if right.max is None else right.max - 1)
        return INT

    def _limited(self, expr: s.Expr, found: IntType) -> Type:
        """Drop bounds beyond 64 bits; a constant there is an error."""
        bounds = [b if b is not None and abs(b) < _INT_LIMIT else None for b in _both(found)]
        if found.min is not None and found.min == found.max and None in bounds:
            return self.error("this integer does not fit into 64 bits", expr)
        return IntType(*bounds)

    def _plus(self, expr: s.Binary, left: Type, right: Type) -> Type:
        if is_textual(left) and is_textual(right):
            first, second = self.constant(expr.left), self.constant(expr.right)
            if isinstance(first, str) and isinstance(second, str):
                self.tables.constants[expr] = first + second
            secret = contains_secret(left) or contains_secret(right)
            return TextType(secret) if secret else TEXT
        if isinstance(left, ListType) and isinstance(right, ListType):
            item = join(left.item, right.item)
            if item is not None:
                return ListType(item)
        if is_textual(left) or is_textual(right):
            help_ = help_note('interpolate the value: `"...{x}"`')
            message = f"`+` joins texts, not {left} and {right}"
            return NEVER if NEVER in (left, right) else self.error(message, expr, help_)
        return self._wrong(expr, "`+` takes numbers, texts or lists", left, right)

    def _comparison(self, expr: s.Comparison, expected: Type | None) -> Type:
        operands = expr.operands
        if len(operands) > 2:  # each is checked once: the middle ones are in two comparisons
            self.checked_operands |= {operand: self.check(operand) for operand in operands}
        for index, operator in enumerate(expr.operators):
            left, right = operands[index], operands[index + 1]
            if operator in ("in", "not in"):
                self._membership(left, right)
            elif operator in ("==", "!="):
                self._equality(left, right)
            else:
                self._order(operator, left, right)
        for operand in operands:
            self.checked_operands.pop(operand, None)
        return BOOL

    def _side(self, expr: s.Expr, hint: Type | None = None) -> Type:
        found = self.checked_operands.get(expr)
        return self.check(expr, hint) if found is None else found

    def _equality(self, left: s.Expr, right: s.Expr) -> None:
        if isinstance(left, s.Text):  # the side that says the type is checked first
            left, right = right, left
        first = self._side(left)
        second = self._side(right, _literal_hint(first))
        known = first != NEVER and second != NEVER
        if known and (contains_agent(first) or contains_agent(second)):
            self.error("agents cannot be compared", left)
        elif known and not _comparable(first, second):
            self.error(f"{first} never equals {second}", right)

    def _order(self, operator: str, left: s.Expr, right: s.Expr) -> None:
        first, second = self._side(left), self._side(right)
        numbers = is_numeric(first) and is_numeric(second)
        texts = is_textual(first) and is_textual(second)
        if not numbers and not texts:
            self._wrong(right, f"`{operator}` compares numbers or texts", first, second)

    def _membership(self, left: s.Expr, right: s.Expr) -> None:
        whole = self._side(right)
        if isinstance(whole, ListType):
            item = self._side(left, _literal_hint(whole.item))
            if contains_agent(item) or contains_agent(whole.item):
                self.error("agents cannot be compared", left)
            elif not isinstance(item, NeverType) and not _comparable(item, whole.item):
                self.error(f"{item} is never in a list of {whole.item}", left)
        elif is_textual(whole):
            part = self._side(left)
            if not is_textual(part) and part != NEVER:
                self.error(f"only text is in a text, not {part}", left)
        elif not isinstance(whole, NeverType):
            self._wrong(right, "`in` looks into lists and texts", whole)


def _literal_hint(type_: Type) -> Type | None:
    """Return the type to give to a literal compared with a value; only a union says much."""
    inner = type_.item if isinstance(type_, OptionalType) else type_
    return inner if isinstance(inner, EnumType | ListType) else None


def _comparable(first: Type, second: Type) -> bool:
    if first == NONE or second == NONE:
        return True
    if is_numeric(first) and is_numeric(second):
        return True
    if isinstance(first, EnumType) and isinstance(second, EnumType):
        return bool(set(first.values) & set(second.values))
    return join(first, second) is not None


def _negated(bound: int | None) -> int | None:
    return None if bound is None else -bound


def _both(interval: IntType) -> tuple[int | None, int | None]:
    return interval.min, interval.max


def _interval(operator: str, left: IntType, right: IntType) -> IntType:
    if operator == "*":
        if None in (*_both(left), *_both(right)):
            return INT
        known = product(_both(left), _both(right))
        values = [a * b for a, b in known if a is not None and b is not None]
        return IntType(min(values), max(values))
    low, high = right.min, right.max
    if operator == "-":
        low, high = _negated(high), _negated(low)
    return IntType(
        None if left.min is None or low is None else left.min + low,
        None if left.max is None or high is None else left.max + high,
    )
