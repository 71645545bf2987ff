"""The types of Loom values, which of them fit into which, and their form as answer types.

Knows nothing of syntax: the checker turns type expressions into these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard


@dataclass(frozen=True, slots=True)
class TextType:
    """Text; `max` counts code points.

    A `secret` never reaches journal, trace or report, so it does not fit into a plain `text`.
    """

    secret: bool = False
    max: int | None = None
    regex: str | None = None

    def __str__(self) -> str:
        limit = "" if self.max is None else f"(max = {self.max})"
        pattern = "" if self.regex is None else f" ~ /{self.regex}/"
        return f"{'secret ' if self.secret else ''}text{limit}{pattern}"


@dataclass(frozen=True, slots=True)
class IntType:
    """An integer between `min` and `max`, both included; None is no bound on that side.

    Expressions carry intervals too: the literal `3` is `int(3..3)`, so a constant is min == max.
    """

    min: int | None = None
    max: int | None = None

    def __str__(self) -> str:
        if self.min is None and self.max is None:
            return "int"
        if self.min == self.max:
            return f"int {self.min}"
        low = "" if self.min is None else self.min
        return f"int({low}..{'' if self.max is None else self.max})"


@dataclass(frozen=True, slots=True)
class FloatType:
    """A 64-bit float; an int fits."""

    def __str__(self) -> str:
        return "float"


@dataclass(frozen=True, slots=True)
class BoolType:
    """`true` or `false`."""

    def __str__(self) -> str:
        return "bool"


@dataclass(frozen=True, slots=True)
class NoneType:
    """The type of `none` alone; it fits into every optional."""

    def __str__(self) -> str:
        return "none"


@dataclass(frozen=True, slots=True)
class NeverType:
    """No value at all: the item of `[]`, and the type of an expression already in error."""

    def __str__(self) -> str:
        return "unknown"


@dataclass(frozen=True, slots=True)
class EnumType:
    """One of the given texts; it fits into `text`."""

    values: tuple[str, ...]

    def __str__(self) -> str:
        return " | ".join(f'"{value}"' for value in self.values)


@dataclass(frozen=True, slots=True)
class RecordType:
    """Named fields in declaration order."""

    fields: tuple[tuple[str, Type], ...]

    def field(self, name: str) -> Type | None:
        """Return the type of a field, None if there is none of that name."""
        return next((type_ for field, type_ in self.fields if field == name), None)

    def __str__(self) -> str:
        return "{" + ", ".join(f"{name}: {type_}" for name, type_ in self.fields) + "}"


@dataclass(frozen=True, slots=True)
class ListType:
    """A list of items of one type."""

    item: Type

    def __str__(self) -> str:
        return f"[{self.item}]"


@dataclass(frozen=True, slots=True)
class OptionalType:
    """`T?`; never nested, never around `none`."""

    item: Type

    def __str__(self) -> str:
        return f"({self.item})?" if isinstance(self.item, EnumType) else f"{self.item}?"


@dataclass(frozen=True, slots=True)
class AgentType:
    """An instance of one of the agents named (qualified names, sorted, without duplicates)."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return " or ".join(self.names)


Type = (
    TextType
    | IntType
    | FloatType
    | BoolType
    | NoneType
    | NeverType
    | EnumType
    | RecordType
    | ListType
    | OptionalType
    | AgentType
)

TEXT, INT, FLOAT, BOOL, NONE, NEVER = (
    TextType(),
    IntType(),
    FloatType(),
    BoolType(),
    NoneType(),
    NeverType(),
)


def optional(item: Type) -> Type:
    """Return `item?`, without nesting."""
    return item if isinstance(item, OptionalType | NoneType | NeverType) else OptionalType(item)


def is_textual(value: Type) -> TypeGuard[TextType | EnumType]:
    """Whether a value is used as text: `text` in all its forms, and unions of literals."""
    return isinstance(value, TextType | EnumType)


def is_numeric(value: Type) -> TypeGuard[IntType | FloatType]:
    """Whether a value is a number."""
    return isinstance(value, IntType | FloatType)


def contains_agent(value: Type) -> bool:
    """Whether a value is an agent or holds one."""
    match value:
        case AgentType():
            return True
        case ListType(item) | OptionalType(item):
            return contains_agent(item)
        case RecordType(fields):
            return any(contains_agent(field) for _, field in fields)
        case _:
            return False


def contains_secret(value: Type) -> bool:
    """Whether a value is a secret text or holds one."""
    match value:
        case TextType(secret=secret):
            return secret
        case ListType(item) | OptionalType(item):
            return contains_secret(item)
        case RecordType(fields):
            return any(contains_secret(field) for _, field in fields)
        case _:
            return False


def is_complete(value: Type) -> bool:
    """Whether no part of the type is still unknown (`[]` alone says nothing of its items)."""
    match value:
        case NeverType():
            return False
        case ListType(item) | OptionalType(item):
            return is_complete(item)
        case RecordType(fields):
            return all(is_complete(field) for _, field in fields)
        case _:
            return True


def fits(value: Type, target: Type) -> bool:
    """Whether every value of type `value` may stand where `target` is wanted."""
    if value == target or isinstance(value, NeverType) or isinstance(target, NeverType):
        return True
    if isinstance(target, OptionalType):
        inner = value.item if isinstance(value, OptionalType) else value
        return isinstance(inner, NoneType) or fits(inner, target.item)
    match value, target:
        case (ListType(item), ListType(wanted)):
            return fits(item, wanted)
        case (AgentType(names), AgentType(wanted)):
            return set(names) <= set(wanted)
        case (RecordType(), RecordType()):
            return _record_fits(value, target)
        case _:
            return _scalar_fits(value, target)


def _scalar_fits(value: Type, target: Type) -> bool:
    match value, target:
        case (IntType(low, high), IntType(wanted_low, wanted_high)):
            above = wanted_low is None or (low is not None and low >= wanted_low)
            return above and (wanted_high is None or (high is not None and high <= wanted_high))
        case (IntType(), FloatType()):
            return True
        case (EnumType(values), EnumType(wanted)):
            return set(values) <= set(wanted)
        case (EnumType(values), TextType()):
            short = target.max is None or all(len(text) <= target.max for text in values)
            return short and target.regex is None
        case (TextType(), TextType()):
            short = target.max is None or (value.max is not None and value.max <= target.max)
            hidden = target.secret or not value.secret
            return short and hidden and target.regex in (None, value.regex)
        case _:
            return False


def _record_fits(value: RecordType, target: RecordType) -> bool:
    names = {name for name, _ in target.fields}
    if any(name not in names for name, _ in value.fields):
        return False
    for name, wanted in target.fields:
        given = value.field(name)
        if given is None and not isinstance(wanted, OptionalType):
            return False
        if given is not None and not fits(given, wanted):
            return False
    return True


def join(left: Type, right: Type) -> Type | None:
    """Return the smallest type both fit into, None if there is none."""
    if fits(left, right):
        return left if isinstance(right, NeverType) else right
    if fits(right, left):
        return left
    match left, right:
        case (OptionalType(item), other) | (other, OptionalType(item)):
            inner = join(item, other.item if isinstance(other, OptionalType) else other)
            return None if inner is None else optional(inner)
        case (NoneType(), other) | (other, NoneType()):
            return optional(other)
        case (ListType(item), ListType(other)):
            inner = join(item, other)
            return None if inner is None else ListType(inner)
        case (AgentType(names), AgentType(others)):
            return AgentType(tuple(sorted({*names, *others})))
        case (RecordType(), RecordType()):
            return _join_records(left, right)
        case _:
            return _join_scalars(left, right)


def _join_scalars(left: Type, right: Type) -> Type | None:
    match left, right:
        case (IntType(low, high), IntType(other_low, other_high)):
            return IntType(
                None if low is None or other_low is None else min(low, other_low),
                None if high is None or other_high is None else max(high, other_high),
            )
        case (EnumType(values), EnumType(others)):
            return EnumType(tuple(dict.fromkeys(values + others)))
        case (TextType() | EnumType(), TextType() | EnumType()):
            secret = contains_secret(left) or contains_secret(right)
            limits = [_longest(left), _longest(right)]
            known = [limit for limit in limits if limit is not None]
            return TextType(secret, max(known) if len(known) == 2 else None)
        case _:
            return None


def _longest(value: TextType | EnumType) -> int | None:
    return value.max if isinstance(value, TextType) else max(len(text) for text in value.values)


def _join_records(left: RecordType, right: RecordType) -> Type | None:
    if [name for name, _ in left.fields] != [name for name, _ in right.fields]:
        return None
    fields: list[tuple[str, Type]] = []
    for (name, first), (_, second) in zip(left.fields, right.fields, strict=True):
        joined = join(first, second)
        if joined is None:
            return None
        fields.append((name, joined))
    return RecordType(tuple(fields))


def widen(value: Type) -> Type:
    """Return the type a `var` gets from its first value: without the bounds of that value."""
    match value:
        case IntType():
            return INT
        case EnumType():
            return TEXT
        case TextType(secret=secret):
            return TextType(secret)
        case ListType(item):
            return ListType(widen(item))
        case _:
            return value


def to_answer_type(value: Type) -> dict[str, Any]:
    """Return the JSON form that compiler and runtime share.

    Raises `ValueError` for agents and `none`, which no model can answer.
    """
    match value:
        case TextType(secret, limit, regex):
            answer: dict[str, Any] = {"kind": "text"}
            return answer | _given(max=limit, regex=regex, secret=secret or None)
        case IntType(low, high):
            return {"kind": "int"} | _given(min=low, max=high)
        case FloatType():
            return {"kind": "float"}
        case BoolType():
            return {"kind": "bool"}
        case EnumType(values):
            return {"kind": "enum", "values": list(values)}
        case RecordType(fields):
            return {
                "kind": "record",
                "fields": [[name, to_answer_type(field)] for name, field in fields],
            }
        case ListType(item):
            return {"kind": "list", "item": to_answer_type(item)}
        case OptionalType(item):
            return {"kind": "optional", "item": to_answer_type(item)}
        case AgentType() | NoneType() | NeverType():
            raise ValueError(f"{value} cannot be an answer")


def _given(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
