"""Command streams as text that people read and that parses back to the very same stream.

A header, then a command a line; `#` starts a comment. A unit field that is left out, or `*`, is
every one of its level, any other field that is left out is 0:

    stream "scores" machine="attacc-hbm3"
    MAC_TREE  ch=3 row=12 col=5 src=1 +start  2048 B  @30

It knows nothing of what commands do, nor whether a stack has what they name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import NoReturn

import numpy as np

from tokenloom.backends.pim.errors import StreamError
from tokenloom.backends.pim.streams.commands import (
    ALL,
    FIELDS,
    FLAGS,
    RECORD,
    Command,
    CommandStream,
    Op,
)

_UNITS = {
    "ch": "channel",
    "pch": "pseudo_channel",
    "sid": "sid",
    "bg": "bank_group",
    "bank": "bank",
}
_NUMBERS = {
    "row": "row",
    "col": "column",
    "dst": "dst",
    "src": "src",
    "lane": "lane",
    "addr": "address",
    "size": "size",
}
_KEYS = {**_UNITS, **_NUMBERS}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_ALL_FLAGS = sum(FLAGS.values())
_HEADER = re.compile(r'stream\s+("(?:[^"\\]|\\.)*")\s+machine=("(?:[^"\\]|\\.)*")\s*(?:#.*)?')
_WORD = re.compile(r"\S+")
_NUMBER = re.compile(r"-?[0-9]{1,20}")
_INT32, _INT64 = np.iinfo(np.int32), np.iinfo(np.int64)
_UNTIMED = -1


def format_stream(stream: CommandStream) -> str:
    """Return the whole stream as text, each line ended."""
    return "".join(f"{line}\n" for line in stream_lines(stream))


def stream_lines(stream: CommandStream) -> Iterator[str]:
    """Yield the header, then a line a command."""
    yield f"stream {json.dumps(stream.name)} machine={json.dumps(stream.machine)}"
    for command in stream:
        yield format_command(command)


def format_command(command: Command) -> str:
    """Return one command as text; what is as by default is left out."""
    words = [f"{command.op.name:<9}"]
    for key, field in _UNITS.items():
        value = getattr(command, field)
        if value != ALL:
            words.append(f"{key}={value}")
    words += [
        f"{key}={value}" for key, field in _NUMBERS.items() if (value := getattr(command, field))
    ]
    words += [f"+{name}" for name, bit in FLAGS.items() if command.flags & bit]
    if rest := command.flags & ~_ALL_FLAGS:
        words.append(f"+{rest}")
    if command.size_bytes:
        words.append(f" {command.size_bytes} B")
    if command.cycle != _UNTIMED:
        words.append(f" @{command.cycle}")
    return " ".join(words).rstrip()


def parse_stream(text: str, file: str = "stream") -> CommandStream:
    """Return the stream that the text says.

    StreamError: file, line and column of the first word that is wrong, and why.
    """
    lines = enumerate(text.split("\n"), 1)
    name, machine = _header(lines, file)
    rows: list[tuple[int, ...]] = []
    for number, line in lines:
        words = _words(line)
        if words:
            rows.append(_Line(file, number).parse(words))
    return CommandStream(name, machine, np.array(rows, RECORD))


def _header(lines: Iterable[tuple[int, str]], file: str) -> tuple[str, str]:
    number, line = next(((n, text) for n, text in lines if _words(text)), (1, ""))
    matched = _HEADER.fullmatch(line.strip())
    try:
        name, machine = [json.loads(text) for text in matched.groups()] if matched else (None, None)
    except ValueError:  # an escape that JSON does not have
        name, machine = None, None
    if name is None or machine is None:
        raise StreamError(
            f"{file}:{number}:1: no header; a stream starts with a line like"
            ' stream "name" machine="attacc-hbm3"'
        )
    return name, machine


def _words(line: str) -> list[tuple[int, str]]:
    """Return the words before a comment, each with its column, counted from 1."""
    words = [(word.start() + 1, word.group()) for word in _WORD.finditer(line)]
    for index, (_, word) in enumerate(words):
        if word.startswith("#"):
            return words[:index]
    return words


class _Line:
    """One command being read: what its words have set so far."""

    def __init__(self, file: str, number: int):
        self._file, self._number = file, number
        self._values = dict.fromkeys(FIELDS, 0) | dict.fromkeys(_UNITS.values(), ALL)
        self._values["cycle"] = _UNTIMED
        self._given: set[str] = set()

    def parse(self, words: list[tuple[int, str]]) -> tuple[int, ...]:
        """Return the command as a record."""
        column, word = words[0]
        if word not in Op.__members__:
            self._fail(column, f"no command {word!r}", word, Op.__members__)
        self._values["op"] = Op[word]
        rest = iter(words[1:])
        for column, word in rest:
            if word.startswith("@"):
                self._set(column, "cycle", self._number_of(column, word[1:], _INT64.max))
            elif word.startswith("+"):
                self._flag(column, word[1:])
            elif "=" in word:
                self._field(column, *word.split("=", 1))
            elif _NUMBER.fullmatch(word):
                self._bytes(column, word, next(rest, (column + len(word), "")))
            else:
                self._fail(column, f"cannot read {word!r}", word, [f"{key}=" for key in _KEYS])
        return tuple(int(self._values[field]) for field in FIELDS)

    def _field(self, column: int, key: str, text: str) -> None:
        if key not in _KEYS:
            self._fail(column, f"a command has no {key!r}", key, _KEYS)
        if text == "*" and key in _UNITS:
            value = ALL
        else:
            value = self._number_of(column + len(key) + 1, text, _INT32.max)
        self._set(column, _KEYS[key], value)

    def _flag(self, column: int, name: str) -> None:
        if name in FLAGS:
            bits = FLAGS[name]
        elif _NUMBER.fullmatch(name):
            bits = self._number_of(column + 1, name, _INT32.max)
        else:
            self._fail(column, f"no flag '+{name}'", f"+{name}", [f"+{flag}" for flag in FLAGS])
        if self._values["flags"] & bits:
            self._fail(column, f"'+{name}' is given twice")
        self._values["flags"] |= bits

    def _bytes(self, column: int, text: str, unit: tuple[int, str]) -> None:
        if unit[1] not in _BYTES:
            what = "a number of bytes has its unit after it, as in 2048 B"
            self._fail(unit[0], what, unit[1], _BYTES)
        factor = _BYTES[unit[1]]
        value = self._number_of(column, text, _INT32.max // factor) * factor
        self._set(column, "size_bytes", value)

    def _set(self, column: int, field: str, value: int) -> None:
        if field in self._given:
            self._fail(column, f"{field} is given twice")
        self._given.add(field)
        self._values[field] = value

    def _number_of(self, column: int, text: str, most: int) -> int:
        if not _NUMBER.fullmatch(text):
            self._fail(column, f"{text!r} is not a whole number")
        value = int(text)
        if not -most - 1 <= value <= most:
            self._fail(column, f"{value} is not between {-most - 1} and {most}")
        return value

    def _fail(
        self, column: int, reason: str, word: str = "", known: Iterable[str] = ()
    ) -> NoReturn:
        known = list(known)
        near = get_close_matches(word, known, n=1) or get_close_matches(word.upper(), known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
        raise StreamError(f"{self._file}:{self._number}:{column}: {reason}{hint if known else ''}")
