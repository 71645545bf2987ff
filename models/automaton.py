"""Regular expressions over bytes as automata that are never built: states are derivatives.

The derivative of an expression by a byte is the expression of what may follow it (Brzozowski,
"Derivatives of Regular Expressions", 1964). Each expression knows its shortest word, so from any
state the shortest way to the end is at hand. It knows nothing of characters, tokens or answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field

ByteRanges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Expression(ABC):
    """A set of byte strings.

    `shortest` is its shortest word, None for the empty set; `nullable` says whether the empty word
    is in it.
    """

    shortest: bytes | None = field(init=False, compare=False, repr=False)

    @property
    def nullable(self) -> bool:
        """Whether the expression may end here."""
        return self.shortest == b""

    @property
    def complete(self) -> bool:
        """Whether the empty word is all that matches."""
        return self is EMPTY

    @property
    def dead(self) -> bool:
        """Whether nothing matches."""
        return self.shortest is None

    @abstractmethod
    def step(self, byte: int) -> Expression:
        """Return what may follow `byte`."""


@dataclass(frozen=True)
class _Empty(Expression):
    """The empty word alone."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shortest", b"")

    def step(self, byte: int) -> Expression:
        return NOTHING


@dataclass(frozen=True)
class _OneByte(Expression):
    """One byte out of ranges."""

    ranges: ByteRanges

    def __post_init__(self) -> None:
        readable = (byte for byte in b"a0A" if self._has(byte))
        object.__setattr__(self, "shortest", bytes([next(readable, self.ranges[0][0])]))

    def _has(self, byte: int) -> bool:
        return any(low <= byte <= high for low, high in self.ranges)

    def step(self, byte: int) -> Expression:
        return EMPTY if self._has(byte) else NOTHING


@dataclass(frozen=True)
class _Then(Expression):
    """`head` and behind it `tail`; `digest` is the hash, taken once since expressions nest."""

    head: Expression
    tail: Expression
    digest: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        shortest = (self.head.shortest or b"") + (self.tail.shortest or b"")
        object.__setattr__(self, "shortest", shortest)
        object.__setattr__(self, "digest", hash((self.head, self.tail)))

    def __hash__(self) -> int:
        return self.digest

    def step(self, byte: int) -> Expression:
        moved = then(self.head.step(byte), self.tail)
        return either([moved, self.tail.step(byte)]) if self.head.nullable else moved


@dataclass(frozen=True)
class _Either(Expression):
    """Any of several expressions."""

    options: frozenset[Expression]

    def __post_init__(self) -> None:
        words = [o.shortest for o in self.options if o.shortest is not None]
        word = min(words, key=lambda word: (len(word), word), default=None)
        object.__setattr__(self, "shortest", word)

    def step(self, byte: int) -> Expression:
        return either(option.step(byte) for option in self.options)


@dataclass(frozen=True)
class _Repeat(Expression):
    """`item`, from `low` to `high` times; without `high` any number of times."""

    item: Expression
    low: int
    high: int | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shortest", (self.item.shortest or b"") * self.low)

    def step(self, byte: int) -> Expression:
        rest = repeat(self.item, max(0, self.low - 1), None if self.high is None else self.high - 1)
        return then(self.item.step(byte), rest)


NOTHING: Expression = _Either(frozenset())
EMPTY: Expression = _Empty()


def one_byte(*ranges: tuple[int, int]) -> Expression:
    """Return one byte out of inclusive ranges."""
    return _OneByte(ranges)


def then(head: Expression, tail: Expression) -> Expression:
    """Return `head` followed by `tail`."""
    if head.dead or tail.dead:
        return NOTHING
    if head is EMPTY:
        return tail
    if tail is EMPTY:
        return head
    if isinstance(head, _Then):  # to the right, so that a step touches the front only
        return then(head.head, then(head.tail, tail))
    return _Then(head, tail)


def sequence(parts: Iterable[Expression]) -> Expression:
    """Return all parts, one after the other."""
    result = EMPTY
    for part in reversed(list(parts)):
        result = then(part, result)
    return result


def either(options: Iterable[Expression]) -> Expression:
    """Return any of the options; equal ones count once."""
    flat: set[Expression] = set()
    for option in options:
        if isinstance(option, _Either):
            flat |= option.options
        elif not option.dead:
            flat.add(option)
    return flat.pop() if len(flat) == 1 else _Either(frozenset(flat))


def repeat(item: Expression, low: int, high: int | None) -> Expression:
    """Return `item` repeated from `low` to `high` times."""
    if high == 0 or item is EMPTY:
        return EMPTY
    if item.dead:
        return EMPTY if low == 0 else NOTHING
    if low == 1 and high == 1:
        return item
    return _Repeat(item, 0 if item.nullable else low, high)


def advance(expression: Expression, data: bytes) -> Expression:
    """Return what may follow `data`; dead when nothing does."""
    for byte in data:
        expression = expression.step(byte)
        if expression.dead:
            return NOTHING
    return expression
