"""Answer types: what an answer may look like, its shortest text, and its value.

A type is JSON data: `{"kind": "text", "max": 40}`, `{"kind": "text", "regex": "..."}`, `{"kind":
"int", "min": 0, "max": 10}`, `float`, `bool`, `{"kind": "enum", "values": [...]}`, `{"kind":
"record", "fields": [[name, type], ...]}`, `{"kind": "list", "item": type}`, `{"kind": "optional",
"item": type}`. Texts, numbers, booleans and enums are answered bare; records, lists and what is
in them as compact JSON in declaration order; `none` as `null`. It knows nothing of models or of
how tokens are chosen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from tokenloom.models import patterns
from tokenloom.models.automaton import Expression, advance
from tokenloom.models.patterns import Chars, Concat, Pattern, Times, choice, literal, to_expression
from tokenloom.models.regex_syntax import parse_regex

AnswerType = Mapping[str, Any]

_LARGEST_INT = 10**18 - 1
_DIGIT = Chars(((0x30, 0x39),))
_NONZERO = Chars(((0x31, 0x39),))
_FLOAT_DIGITS = 15
"""Decimal digits that a 64-bit float always keeps (DBL_DIG)."""


class AnswerError(Exception):
    """A text is no answer of the type; the message says where and what was expected."""


class ByteTokenizer(Protocol):
    """What is needed of a tokenizer to spell given bytes."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of a token."""
        ...


def is_free_text(answer: AnswerType) -> bool:
    """Say whether any text is an answer, so that nothing needs to be constrained."""
    return answer["kind"] == "text" and "max" not in answer and "regex" not in answer


def answer_pattern(answer: AnswerType) -> Pattern:
    """Return the pattern of all answers. Raises RegexError for an unusable expression."""
    match answer["kind"]:
        case "text":
            return _text(answer)
        case "enum":
            return choice(*(literal(value) for value in _values(answer)))
        case "optional":
            return choice(answer_pattern(answer["item"]), literal("null"))
        case _:
            return _json(answer)


def answer_expression(answer: AnswerType) -> Expression:
    """Return the automaton of all answers in UTF-8."""
    return to_expression(answer_pattern(answer))


def answer_regex(answer: AnswerType) -> str:
    """Return the regular expression of all answers, in the syntax of Rust's `regex`."""
    return patterns.to_regex(answer_pattern(answer))


def shortest_answer(answer: AnswerType) -> str:
    """Return the shortest answer of the type."""
    return (answer_expression(answer).shortest or b"").decode()


def shortest_answer_tokens(answer: AnswerType, tokenizer: ByteTokenizer) -> int:
    """Return how many tokens `max` must allow at least for an answer of the type.

    An answer of no token is still one step of generation: the end-of-turn token.
    """
    return max(1, len(spell(shortest_answer(answer).encode(), tokenizer)))


def spell(data: bytes, tokenizer: ByteTokenizer) -> list[int]:
    """Return tokens whose bytes are exactly `data`, which may begin inside a character.

    Raises AnswerError where the vocabulary cannot spell it.
    """
    start = 0
    while start < len(data) and data[start] & 0xC0 == 0x80:
        start += 1
    ids = tokenizer.encode(data[start:].decode())
    if b"".join(map(tokenizer.token_bytes, ids)) != data[start:]:
        ids = _single_bytes(data[start:], tokenizer)  # a normalizer changed the text
    return _single_bytes(data[:start], tokenizer) + ids


def _single_bytes(data: bytes, tokenizer: ByteTokenizer) -> list[int]:
    return [_byte_token(byte, tokenizer) for byte in data]


def _byte_token(byte: int, tokenizer: ByteTokenizer) -> int:
    wanted = bytes([byte])
    # A byte-level vocabulary begins with the 256 bytes, behind a few markers at most.
    for token_id in range(1024):
        if tokenizer.token_bytes(token_id) == wanted:
            return token_id
    raise AnswerError(f"the vocabulary has no token for the byte 0x{byte:02x}")


def _values(answer: AnswerType) -> Sequence[str]:
    return cast("Sequence[str]", answer["values"])


def _fields(answer: AnswerType) -> Sequence[tuple[str, AnswerType]]:
    return cast("Sequence[tuple[str, AnswerType]]", answer["fields"])


def _text(answer: AnswerType) -> Pattern:
    if "regex" in answer:
        return parse_regex(cast("str", answer["regex"]))
    return Times(patterns.ANY, 0, cast("int | None", answer.get("max")))


def _json(answer: AnswerType) -> Pattern:
    match answer["kind"]:
        case "text":
            return Concat((literal('"'), patterns.in_json(_text(answer)), literal('"')))
        case "enum":
            return choice(*(literal(_compact(value)) for value in _values(answer)))
        case "optional":
            return choice(_json(answer["item"]), literal("null"))
        case "bool":
            return choice(literal("true"), literal("false"))
        case "int":
            return _integers(*_bounds(answer))
        case "float":
            return _float()
        case "record":
            return _record(_fields(answer))
        case "list":
            item = _json(answer["item"])
            more = Times(Concat((literal(","), item)), 0, None)
            return choice(literal("[]"), Concat((literal("["), item, more, literal("]"))))
        case kind:
            raise ValueError(f"unknown kind of answer {kind!r}")


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _record(fields: Sequence[tuple[str, AnswerType]]) -> Pattern:
    parts: list[Pattern] = []
    for name, field in fields:
        parts += [literal("," if parts else "{"), literal(_compact(name) + ":"), _json(field)]
    return Concat((*parts, literal("}" if parts else "{}")))


def _float() -> Pattern:
    """Return decimals without an exponent, at most as precise as a float."""
    whole = choice(literal("0"), Concat((_NONZERO, Times(_DIGIT, 0, _FLOAT_DIGITS - 1))))
    fraction = Concat((literal("."), Times(_DIGIT, 1, _FLOAT_DIGITS)))
    return Concat((Times(literal("-"), 0, 1), whole, Times(fraction, 0, 1)))


def _bounds(answer: AnswerType) -> tuple[int, int]:
    """Return both bounds; an open one is as far as 18 digits go."""
    low = cast("int | None", answer.get("min"))
    high = cast("int | None", answer.get("max"))
    least = min(-_LARGEST_INT, 0 if high is None else high)
    most = max(_LARGEST_INT, 0 if low is None else low)
    return least if low is None else low, most if high is None else high


def _integers(low: int, high: int) -> Pattern:
    """Return the decimals of `low` to `high`: no leading zeros, no negative zero."""
    options: list[Pattern] = []
    if high >= 0:
        options.append(_naturals(max(low, 0), high))
    if low < 0:
        options.append(Concat((literal("-"), _naturals(max(1, -high), -low))))
    return choice(*options)


def _naturals(low: int, high: int) -> Pattern:
    options: list[Pattern] = []
    for width in range(len(str(low)), len(str(high)) + 1):
        first = str(max(low, 10 ** (width - 1) if width > 1 else 0))
        last = str(min(high, 10**width - 1))
        options.append(_same_width(first, last))
    return choice(*options)


def _same_width(low: str, high: str) -> Pattern:
    """Return the decimals between two of equal width."""
    if not low:
        return Concat(())
    rest = len(low) - 1
    if low[0] == high[0]:
        return Concat((literal(low[0]), _same_width(low[1:], high[1:])))
    first, last = ord(low[0]), ord(high[0])
    options: list[Pattern] = []
    if low[1:] != "0" * rest:
        options.append(Concat((literal(low[0]), _same_width(low[1:], "9" * rest))))
        first += 1
    if high[1:] != "9" * rest:
        options.append(Concat((literal(high[0]), _same_width("0" * rest, high[1:]))))
        last -= 1
    if first <= last:
        options.append(Concat((Chars(((first, last),)), Times(_DIGIT, rest, rest))))
    return choice(*options)


def parse_answer(answer: AnswerType, text: str) -> Any:
    """Return the value of an answer: str, int, float, bool, dict, list or None.

    Around what is not text, white space is ignored. Raises AnswerError.
    """
    match answer["kind"]:
        case "text":
            return _checked(answer, text, "the answer")
        case "enum":
            return _checked(answer, text.strip(), "the answer")
        case "optional":
            return None if text.strip() == "null" else parse_answer(answer["item"], text)
        case _:
            return _checked(answer, _loads(text), "the answer")


def _loads(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AnswerError(f"the answer {_short(text)} is not JSON: {error}") from error


def _checked(answer: AnswerType, value: object, place: str) -> Any:
    """Return `value`, which must be of the type; numbers become those of the type."""
    match answer["kind"], value:
        case "text", str():
            return _checked_text(answer, value, place)
        case "enum", str() if value in _values(answer):
            return value
        case "optional", _:
            return None if value is None else _checked(answer["item"], value, place)
        case "bool", bool():
            return value
        case "int", int() if not isinstance(value, bool):
            return _checked_int(answer, value, place)
        case "float", int() | float() if not isinstance(value, bool):
            return float(value)
        case "record", dict():
            return _checked_record(answer, cast("dict[str, object]", value), place)
        case "list", list():
            items = enumerate(cast("list[object]", value))
            return [_checked(answer["item"], item, f"{place}[{i}]") for i, item in items]
        case _:
            raise AnswerError(f"{place} must be {describe(answer)}, got {_short(value)}")


def _checked_text(answer: AnswerType, value: str, place: str) -> str:
    limit = cast("int | None", answer.get("max"))
    if limit is not None and len(value) > limit:
        raise AnswerError(f"{place} may have {limit} characters, has {len(value)}")
    if "regex" in answer and not advance(answer_expression(answer), value.encode()).nullable:
        raise AnswerError(f"{place} must match /{answer['regex']}/, got {_short(value)}")
    return value


def _checked_int(answer: AnswerType, value: int, place: str) -> int:
    low, high = answer.get("min", value), answer.get("max", value)
    if not low <= value <= high:
        raise AnswerError(f"{place} must be {describe(answer)}, got {value}")
    return value


def _checked_record(answer: AnswerType, value: dict[str, object], place: str) -> dict[str, Any]:
    fields = dict(_fields(answer))
    unknown = [name for name in value if name not in fields]
    missing = [n for n, f in fields.items() if n not in value and f["kind"] != "optional"]
    if unknown or missing:
        problem = f"lacks {missing[0]!r}" if missing else f"has an unknown field {unknown[0]!r}"
        raise AnswerError(f"{place} {problem}")
    return {name: _checked(f, value.get(name), f"{place}.{name}") for name, f in fields.items()}


def _short(value: object) -> str:
    text = _compact(value)
    return text if len(text) <= 60 else text[:57] + "..."


def describe(answer: AnswerType) -> str:
    """Return the type in words, as error messages say it."""
    match answer["kind"]:
        case "int" if "min" in answer or "max" in answer:
            return f"an int in {answer.get('min', '')}..{answer.get('max', '')}"
        case "enum":
            return "one of " + ", ".join(_compact(value) for value in _values(answer))
        case "optional":
            return describe(answer["item"]) + " or null"
        case "int":
            return "an int"
        case kind:
            return f"a {kind}"
