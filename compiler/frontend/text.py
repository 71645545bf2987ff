"""The value of a text literal: its common indent taken off, then its escapes applied.

Indent is a matter of source lines, so it goes first: a line break written as an escape starts no
line of its own. Knows only pieces, not how they were found.
"""

from __future__ import annotations

import re

from tokenloom.compiler.frontend.syntax import Interpolation, Span, TextPiece

RawPiece = tuple[str, Span]
"""Fixed text as written, and its place."""

_ESCAPED = re.compile(r"\\u\{([0-9a-fA-F]+)\}|\\(.)|\{\{|\}\}")
_SIMPLE = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}


def make_pieces(
    raw: list[RawPiece | Interpolation], *, multiline: bool
) -> tuple[TextPiece | Interpolation, ...]:
    """Return the pieces of a text as the program means them, without empty ones."""
    parts = _take_off_indent(raw) if multiline else raw
    pieces: list[TextPiece | Interpolation] = []
    for part in parts:
        if isinstance(part, Interpolation):
            pieces.append(part)
        elif part[0]:
            pieces.append(TextPiece(part[1], unescape(part[0])))
    return tuple(pieces)


def unescape(text: str) -> str:
    """Return fixed text with escapes and doubled braces replaced."""
    return _ESCAPED.sub(_unescape_one, text) if "\\" in text or "{" in text or "}" in text else text


def _unescape_one(found: re.Match[str]) -> str:
    code, simple = found.groups()
    if code:
        return chr(int(code, 16))
    return _SIMPLE[simple] if simple else found.group()[0]


def _take_off_indent(raw: list[RawPiece | Interpolation]) -> list[RawPiece | Interpolation]:
    indents: list[str] = []
    for index, part in enumerate(raw):
        if not isinstance(part, Interpolation):
            is_last = index == len(raw) - 1
            indents += _indents_of(part[0].split("\n")[1:], is_last)
    indent = _common_start(indents)
    parts: list[RawPiece | Interpolation] = []
    for index, part in enumerate(raw):
        if isinstance(part, Interpolation):
            parts.append(part)
            continue
        first, *lines = part[0].split("\n")
        text = "\n".join([first, *(_without(line, indent) for line in lines)])
        parts.append((text[1:] if index == 0 and text.startswith("\n") else text, part[1]))
    return parts


def _indents_of(lines: list[str], is_last: bool) -> list[str]:
    """Return the indents of lines that are not blank; one before an interpolation is not."""
    indents: list[str] = []
    for index, line in enumerate(lines):
        stripped = line.lstrip(" \t")
        ends_in_interpolation = index == len(lines) - 1 and not is_last
        if stripped or ends_in_interpolation:
            indents.append(line[: len(line) - len(stripped)])
    return indents


def _without(line: str, indent: str) -> str:
    """Return the line without the indent; a blank line may be shorter than it."""
    return line[len(_common_start([line, indent])) :]


def _common_start(texts: list[str]) -> str:
    """Return what all the texts start with."""
    if not texts:
        return ""
    shortest, longest = min(texts), max(texts)  # the two that differ first
    same = next((i for i, char in enumerate(shortest) if char != longest[i]), len(shortest))
    return shortest[:same]
