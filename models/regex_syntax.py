r"""Reads the regular expressions of `text ~ /.../` types.

A portable core of the usual syntax: characters, classes, groups, `|`, `* + ? {m,n}`, and the
escapes \d \w \s (ASCII), \n \t \r \f \v \xHH \uHHHH \u{...}. The whole text must match, so `^` and
`$` may stand at the ends. What has no place in a regular language, or means different things in
different tools, is refused with its position.
"""

from __future__ import annotations

from typing import NoReturn

from tokenloom.models.patterns import (
    LAST_CODE,
    Chars,
    Concat,
    Pattern,
    Times,
    chars,
    choice,
    negate,
)

MAX_REPEAT = 1000
"""The largest count in `{m,n}`."""

_CONTROL = {"n": 0x0A, "t": 0x09, "r": 0x0D, "f": 0x0C, "v": 0x0B, "0": 0x00}
_CLASSES = {
    "d": [(0x30, 0x39)],
    "w": [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)],
    "s": [(0x09, 0x0D), (0x20, 0x20)],
}


class RegexError(Exception):
    """The expression cannot be used; `position` counts characters from 0."""

    def __init__(self, regex: str, position: int, problem: str):
        super().__init__(f"/{regex}/, character {position + 1}: {problem}")
        self.position = position


def parse_regex(regex: str) -> Pattern:
    """Return the pattern of texts that match as a whole. Raises RegexError."""
    reader = _Reader(regex)
    reader.take("^")
    pattern = reader.alternatives()
    reader.take("$")
    if not reader.at_end:
        reader.fail(f"unexpected {reader.peek()!r}")
    return pattern


class _Reader:
    def __init__(self, regex: str):
        self._regex = regex
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._regex)

    def peek(self) -> str:
        return self._regex[self._at : self._at + 1]

    def take(self, text: str) -> bool:
        found = self._regex.startswith(text, self._at)
        self._at += len(text) if found else 0
        return found

    def next(self) -> str:
        if self.at_end:
            self.fail("the expression ends too early")
        self._at += 1
        return self._regex[self._at - 1]

    def fail(self, problem: str) -> NoReturn:
        raise RegexError(self._regex, self._at, problem)

    def alternatives(self) -> Pattern:
        options = [self._sequence()]
        while self.take("|"):
            options.append(self._sequence())
        return choice(*options)

    def _sequence(self) -> Pattern:
        parts: list[Pattern] = []
        while not self.at_end and self.peek() not in ")|$":
            parts.append(self._repeated())
        return Concat(tuple(parts))

    def _repeated(self) -> Pattern:
        item = self._atom()
        bounds = self._bounds()
        if bounds is None:
            return item
        if self.peek() and self.peek() in "*+?{":
            self.fail("one repetition after another; lazy and possessive ones mean nothing here")
        return Times(item, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.take(sign):
                return bounds
        if not self.take("{"):
            return None
        low = self._number()
        high: int | None = low
        if self.take(","):
            high = None if self.peek() == "}" else self._number()
        if not self.take("}"):
            self.fail("expected '}'")
        if high is not None and high < low:
            self.fail(f"{{{low},{high}}} is an empty range")
        return low, high

    def _number(self) -> int:
        digits = ""
        while self.peek().isascii() and self.peek().isdigit():
            digits += self.next()
        if not digits:
            self.fail("expected a number; write \\{ for a brace")
        if int(digits) > MAX_REPEAT:
            self.fail(f"a repetition of {digits} is above {MAX_REPEAT}")
        return int(digits)

    def _atom(self) -> Pattern:
        sign = self.next()
        if sign == "(":
            return self._group()
        if sign == "[":
            return self._class()
        if sign == ".":
            return negate(Chars(((0x0A, 0x0A),)))
        if sign == "\\":
            return self._escape()
        if sign in "*+?{}]^":
            self._at -= 1
            self.fail(f"{sign!r} has nothing to stand for here; write \\{sign}")
        return Chars(((ord(sign), ord(sign)),))

    def _group(self) -> Pattern:
        if self.peek() == "?" and not self.take("?:"):
            self.fail("only plain groups ( ) and (?: ) are known")
        inner = self.alternatives()
        if not self.take(")"):
            self.fail("expected ')'")
        return inner

    def _class(self) -> Chars:
        negated = self.take("^")
        if self.peek() == "]":
            self.fail("an empty class; write \\] for a bracket")
        ranges: list[tuple[int, int]] = []
        while not self.take("]"):
            ranges.extend(self._class_item())
        found = chars(ranges)
        result = negate(found) if negated else found
        if not result.ranges:
            self.fail("a class that no character is in")
        return result

    def _class_item(self) -> tuple[tuple[int, int], ...]:
        first = self._class_char()
        is_range = self.peek() == "-" and self._regex[self._at + 1 : self._at + 2] not in ("]", "")
        if not is_range:
            return first.ranges
        self.next()
        last = self._class_char()
        ends = [*first.ranges, *last.ranges]
        if any(low != high for low, high in ends) or len(ends) != 2:
            self.fail("the ends of a range must be single characters")
        if ends[0][0] > ends[1][0]:
            self.fail("the range is empty: its ends are in the wrong order")
        return ((ends[0][0], ends[1][0]),)

    def _class_char(self) -> Chars:
        sign = self.next()
        return self._escape() if sign == "\\" else Chars(((ord(sign), ord(sign)),))

    def _escape(self) -> Chars:
        sign = self.next()
        if sign in _CLASSES:
            return chars(_CLASSES[sign])
        if sign.lower() in _CLASSES:
            return negate(chars(_CLASSES[sign.lower()]))
        code = _CONTROL.get(sign)
        if code is None and sign in "xu":
            code = self._hex(2 if sign == "x" else 4)
        elif code is None and sign.isascii() and sign.isalnum():
            self.fail(f"the escape \\{sign} is not known")
        return chars([(code, code)] if code is not None else [(ord(sign), ord(sign))])

    def _hex(self, num_digits: int) -> int:
        if self.take("{"):
            end = self._regex.find("}", self._at)
            digits = self._regex[self._at : max(end, self._at)]
            self._at = end + 1 if end >= 0 else self._at
        else:
            digits = self._regex[self._at : self._at + num_digits]
            self._at += num_digits
            digits = digits if len(digits) == num_digits else ""
        try:
            code = int(digits, 16)
        except ValueError:
            self.fail(f"{digits!r} is not a hexadecimal code")
        if code > LAST_CODE or 0xD800 <= code <= 0xDFFF:
            self.fail(f"U+{code:04X} is not a character")
        return code
