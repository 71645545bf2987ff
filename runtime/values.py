"""What values mean: how they print in a prompt, and what operators, fields and indexing do.

The executor and the reference interpreter compute with this one table. It knows nothing of
futures, prompts or models. A value is None, bool, int, float, str, list or dict (a record, in
declaration order); an absent optional field is None.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from tokenloom.runtime.errors import RunError

Value = Any
"""None, bool, int, float, str, list or dict of values."""

_INT_LIMIT = 1 << 63


def segments(value: Value) -> list[str]:
    """Return the texts of an interpolated value, each to be tokenized on its own.

    A list is a text for each element with line breaks between; nested lists are lines too.
    """
    if not isinstance(value, list):
        return [_text_of_scalar(value)]
    texts: list[str] = []
    for index, item in enumerate(cast("list[Value]", value)):
        texts += (["\n"] if index else []) + segments(item)
    return texts


def text_of(value: Value) -> str:
    """Return a value as an interpolation prints it."""
    return "".join(segments(value))


def _text_of_scalar(value: Value) -> str:
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case dict():
            return to_json(cast("dict[str, Value]", value))
        case _:
            raise RunError(f"a {type(value).__name__} cannot be printed")


def plain(value: Value) -> Value:
    """Return a value as JSON data: fields that are absent are left out."""
    if isinstance(value, dict):
        fields = cast("dict[str, Value]", value).items()
        return {name: plain(field) for name, field in fields if field is not None}
    if isinstance(value, list):
        return [plain(item) for item in cast("list[Value]", value)]
    return value


def to_json(value: Value) -> str:
    """Return a value as compact JSON, as a record prints."""
    return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"))


def join(items: Sequence[Value], separator: str) -> str:
    """Return the elements as printed, with the separator between them."""
    return separator.join(text_of(item) for item in items)


def concat(*parts: Value) -> str:
    """Return the parts as printed, one behind the other."""
    return "".join(text_of(part) for part in parts)


def length(value: Value) -> int:
    """Return the number of elements of a list, or of code points of a text."""
    return len(value)


def index(items: Value, position: int) -> Value:
    """Return an element; negative positions count from the end. RunError where there is none."""
    if not -len(items) <= position < len(items):
        what = "text" if isinstance(items, str) else "list"
        raise RunError(f"index {position} is out of range: the {what} has length {len(items)}")
    return items[position]


def update(items: Sequence[Value], position: int, value: Value) -> list[Value]:
    """Return the list with one element replaced. RunError where there is none."""
    index(items, position)
    changed = list(items)
    changed[position] = value
    return changed


def field(record: Mapping[str, Value], name: str) -> Value:
    """Return a field of a record; None where an optional one is absent."""
    return record.get(name)


def _number(value: int | float) -> int | float:
    """Return the value if a 64-bit integer or a finite float can hold it, else fail the run."""
    if isinstance(value, float) and not math.isfinite(value):
        raise RunError(f"the result is {value}, not a finite number")
    if isinstance(value, int) and not -_INT_LIMIT <= value < _INT_LIMIT:
        raise RunError("the result does not fit into a 64-bit integer")
    return value


def _add(left: Value, right: Value) -> Value:
    if isinstance(left, str | list):
        return left + right
    return _number(left + right)


def _arithmetic(function: Callable[[Any, Any], Any]) -> Callable[[Value, Value], Value]:
    def apply(left: Value, right: Value) -> Value:
        try:
            return _number(function(left, right))
        except ZeroDivisionError:
            raise RunError(f"{left} is divided by zero") from None
        except OverflowError:
            raise RunError("the result is not a finite number") from None

    return apply


def _contains(item: Value, items: Value) -> bool:
    return item in items


BINARY: Mapping[str, Callable[[Value, Value], Value]] = {
    "add": _add,
    "sub": _arithmetic(operator.sub),
    "mul": _arithmetic(operator.mul),
    "div": _arithmetic(lambda left, right: left / right),
    "floordiv": _arithmetic(lambda left, right: left // right),
    "mod": _arithmetic(operator.mod),
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "in": _contains,
}
"""Two-operand operators by name, as in Python."""

UNARY: Mapping[str, Callable[[Value], Value]] = {
    "neg": lambda value: _number(-value),
    "not": operator.not_,
}
"""One-operand operators by name."""


def widen(value: Value, answer_type: Mapping[str, Any]) -> Value:
    """Return an equal value of a wider type: ints become floats, absent fields None."""
    match answer_type["kind"], value:
        case "float", int():
            return float(value)
        case "optional", _:
            return None if value is None else widen(value, answer_type["item"])
        case "list", list():
            return [widen(item, answer_type["item"]) for item in cast("list[Value]", value)]
        case "record", dict():
            record = cast("dict[str, Value]", value)
            return {
                name: None if record.get(name) is None else widen(record[name], kind)
                for name, kind in answer_type["fields"]
            }
        case _:
            return value
