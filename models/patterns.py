r"""Regular expressions over characters: the languages of answers.

From one pattern come the regular expression that the mask of tokens is made from, the automaton
that knows the shortest way to the end, and the same language spelled inside a JSON string. It
knows nothing of answer types or tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenloom.models import automaton
from tokenloom.models.automaton import Expression

LAST_CODE = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)
_SHORT_ESCAPES = {
    0x22: '"',
    0x5C: "\\",
    0x08: "b",
    0x0C: "f",
    0x0A: "n",
    0x0D: "r",
    0x09: "t",
}
"""Characters that JSON (RFC 8259, section 7) spells with a backslash and one letter."""


@dataclass(frozen=True)
class Chars:
    """One character out of inclusive ranges of code points, sorted and apart; no surrogates."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Concat:
    """All parts, one after the other; none is the empty text."""

    parts: tuple[Pattern, ...]


@dataclass(frozen=True)
class Choice:
    """One of the options, of which there is at least one."""

    options: tuple[Pattern, ...]


@dataclass(frozen=True)
class Times:
    """`item`, from `low` to `high` times; without `high` any number of times."""

    item: Pattern
    low: int
    high: int | None


Pattern = Chars | Concat | Choice | Times

NOTHING = Chars(())


def chars(ranges: list[tuple[int, int]]) -> Chars:
    """Return one character out of ranges in any order; surrogates are taken out."""
    first, last = _SURROGATES
    parts = [(low, min(high, first - 1)) for low, high in ranges]
    parts += [(max(low, last + 1), high) for low, high in ranges]
    merged: list[tuple[int, int]] = []
    for low, high in sorted(part for part in parts if part[0] <= part[1]):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return Chars(tuple(merged))


def negate(item: Chars) -> Chars:
    """Return any character that is not in `item`."""
    gaps: list[tuple[int, int]] = []
    start = 0
    for low, high in item.ranges:
        gaps.append((start, low - 1))
        start = high + 1
    gaps.append((start, LAST_CODE))
    return chars(gaps)


ANY = chars([(0, LAST_CODE)])


def literal(text: str) -> Pattern:
    """Return the pattern of exactly `text`."""
    return Concat(tuple(Chars(((ord(c), ord(c)),)) for c in text))


def choice(*options: Pattern) -> Pattern:
    """Return one of the options."""
    return options[0] if len(options) == 1 else Choice(options)


def to_regex(pattern: Pattern) -> str:
    r"""Return the pattern in the syntax of Rust's `regex`, every character as `\x{...}`."""
    match pattern:
        case Chars(ranges):
            return "[" + "".join(_regex_range(low, high) for low, high in ranges) + "]"
        case Concat(parts):
            return "".join(_regex_group(part) for part in parts)
        case Choice(options):
            return "|".join(_regex_group(option) for option in options)
        case Times(item, low, high):
            return f"{_regex_group(item)}{{{low},{'' if high is None else high}}}"


def _regex_range(low: int, high: int) -> str:
    return f"\\x{{{low:x}}}" if low == high else f"\\x{{{low:x}}}-\\x{{{high:x}}}"


def _regex_group(pattern: Pattern) -> str:
    text = to_regex(pattern)
    return text if isinstance(pattern, Chars) else f"(?:{text})"


def to_expression(pattern: Pattern) -> Expression:
    """Return the pattern's UTF-8 encoding as an expression over bytes."""
    match pattern:
        case Chars(ranges):
            return automaton.either(_utf8(low, high) for low, high in ranges)
        case Concat(parts):
            return automaton.sequence(to_expression(part) for part in parts)
        case Choice(options):
            return automaton.either(to_expression(option) for option in options)
        case Times(item, low, high):
            return automaton.repeat(to_expression(item), low, high)


def _utf8(low: int, high: int) -> Expression:
    """Return the UTF-8 encodings of a range of code points."""
    for limit in (0x7F, 0x7FF, 0xFFFF):
        if low <= limit < high:
            return automaton.either([_utf8(low, limit), _utf8(limit + 1, high)])
    return _same_width(chr(low).encode(), chr(high).encode())


def _same_width(low: bytes, high: bytes) -> Expression:
    """Return all encodings between two of equal width; those between differ only downwards."""
    if len(low) == 1:
        return automaton.one_byte((low[0], high[0]))
    least, most = b"\x80" * (len(low) - 1), b"\xbf" * (len(low) - 1)
    if low[0] == high[0]:
        return _headed(low[0], high[0], low[1:], high[1:])
    options: list[Expression] = []
    first, last = low[0], high[0]
    if low[1:] != least:
        options.append(_headed(first, first, low[1:], most))
        first += 1
    if high[1:] != most:
        options.append(_headed(last, last, least, high[1:]))
        last -= 1
    if first <= last:
        options.append(_headed(first, last, least, most))
    return automaton.either(options)


def _headed(first: int, last: int, low: bytes, high: bytes) -> Expression:
    return automaton.then(automaton.one_byte((first, last)), _same_width(low, high))


def in_json(pattern: Pattern) -> Pattern:
    """Return the pattern as spelled inside a JSON string: each character in one way only."""
    match pattern:
        case Chars():
            return _json_chars(pattern)
        case Concat(parts):
            return Concat(tuple(in_json(part) for part in parts))
        case Choice(options):
            return Choice(tuple(in_json(option) for option in options))
        case Times(item, low, high):
            return Times(in_json(item), low, high)


def _json_chars(item: Chars) -> Pattern:
    special = [*range(0x20), 0x22, 0x5C]
    escaped = [c for c in special if any(low <= c <= high for low, high in item.ranges)]
    if not escaped:
        return item
    outside = negate(item)
    plain = negate(chars([*outside.ranges, *((c, c) for c in special)]))
    options = [literal(_json_escape(code)) for code in escaped]
    return choice(*([plain] if plain.ranges else []), *options)


def _json_escape(code: int) -> str:
    short = _SHORT_ESCAPES.get(code)
    return f"\\u{code:04x}" if short is None else f"\\{short}"
