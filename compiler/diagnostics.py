"""Messages about a user's program, with the place in the source, a caret and what to do.

Knows nothing of the language: it takes places from the syntax tree or from the locations of IR.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from tokenloom.compiler.frontend.syntax import Node, Span

if TYPE_CHECKING:  # xdsl takes long to import, and errors of the checker need none of it
    from xdsl.dialects.builtin import FileLineColLoc, LocationAttr
    from xdsl.ir import Attribute

_MAX_COMPARED = 500
"""Names compared for one suggestion: it must stay cheap in a large file with many errors."""
_lines: dict[str, list[str]] = {}


Location: TypeAlias = "Span | LocationAttr | None"


@dataclass(frozen=True)
class Note:
    """A further line below a message: `note: ...` or `help: ...`, with a place if it has one."""

    message: str
    location: Location = None
    kind: Literal["note", "help"] = "note"


@dataclass(frozen=True)
class Diagnostic:
    """An error or a warning as a value; `str` renders it with source line and caret."""

    message: str
    location: Location = None
    notes: tuple[Note, ...] = ()
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return render(self)


class CompileError(Exception):
    """One error in the user's program."""

    def __init__(self, message: str, location: Location = None, notes: Iterable[Note] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.location = location
        self.notes = tuple(notes)

    @property
    def diagnostic(self) -> Diagnostic:
        """The error as a value."""
        return Diagnostic(self.message, self.location, self.notes)

    def __str__(self) -> str:
        return render(self.diagnostic)


class CompileErrors(ExceptionGroup[CompileError]):
    """All errors of a phase, in order of place; `str` renders each, then their number."""

    def __new__(cls, errors: Iterable[CompileError]) -> CompileErrors:
        """Sort the errors by place."""
        ordered = sorted(errors, key=lambda error: place_key(error.location))
        return super().__new__(cls, "the program has errors", ordered)

    def __init__(self, errors: Iterable[CompileError]) -> None:
        super().__init__("the program has errors", tuple(errors))

    def derive(self, excs: Iterable[CompileError]) -> CompileErrors:  # pyright: ignore
        """Return a group of the same kind (`except*` and `split` ask for it)."""
        return CompileErrors(excs)

    def __str__(self) -> str:
        count = len(self.exceptions)
        total = "1 error" if count == 1 else f"{count} errors"
        return "\n\n".join([*map(str, self.exceptions), total])


def suggest(name: str, known: Iterable[str]) -> tuple[Note, ...]:
    """Return a `help: did you mean` note if one of the known names is near."""
    slack = max(2, len(name) // 2)
    alike = [word for word in known if abs(len(word) - len(name)) <= slack][:_MAX_COMPARED]
    near = difflib.get_close_matches(name, alike, n=1, cutoff=0.6)
    return (Note(f"did you mean `{near[0]}`?", kind="help"),) if near else ()


def unsupported(node: Node, what: str) -> CompileError:
    """Return the error for a form that is checked, but not lowered in this version."""
    return CompileError(
        f"{what} is not supported yet",
        node.span,
        [Note("this version checks it, but cannot compile it")],
    )


def file_location(place: Span) -> FileLineColLoc:
    """Return the start of a span as a location of IR."""
    from xdsl.dialects.builtin import FileLineColLoc, IntAttr, StringAttr

    return FileLineColLoc(StringAttr(place.path), IntAttr(place.line), IntAttr(place.column))


def remember_source(path: str, text: str) -> None:
    """Keep the text that places of `path` refer to; else it is read from the file."""
    _lines[path] = text.split("\n")


def _resolve(location: Location) -> Span | None:
    """Return the place of any location; of a location of IR, the innermost with a file."""
    if location is None:
        return None
    return location if isinstance(location, Span) else _resolve_attr(location)


def _resolve_attr(location: Attribute) -> Span | None:
    from xdsl.dialects.builtin import ArrayAttr, CallSiteLoc, FileLineColLoc, FusedLoc, NameLoc

    match location:
        case FileLineColLoc():
            line, column = location.line.data, location.column.data
            return Span(location.filename.data, line, column, line, column + 1)
        case NameLoc():
            return _resolve_attr(location.location)
        case CallSiteLoc():
            return _resolve_attr(location.callee)
        case FusedLoc():
            parts = cast("ArrayAttr[Attribute]", location.locations)
            places = (_resolve_attr(part) for part in parts)
            return next((place for place in places if place is not None), None)
        case _:
            return None


def place_key(location: Location) -> tuple[str, int, int]:
    """Return a sort key: by file, line and column; without a place first."""
    point = _resolve(location)
    return ("", 0, 0) if point is None else (point.path, point.line, point.column)


def render(diagnostic: Diagnostic) -> str:
    """Return the message with its source line and caret, then its notes."""
    lines = _located(diagnostic.severity, diagnostic.message, diagnostic.location)
    for note in diagnostic.notes:
        lines += _located(note.kind, note.message, note.location)
    return "\n".join(lines)


def _located(kind: str, message: str, location: Location) -> list[str]:
    point = _resolve(location)
    if point is None:
        return [f"{kind}: {message}"]
    head = f"{point.path}:{point.line}:{point.column}: {kind}: {message}"
    source = _source_line(point.path, point.line)
    if source is None:
        return [head]
    return [head, f"  {source}", f"  {_caret(source, point)}"]


def _source_line(path: str, line: int) -> str | None:
    if path not in _lines:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None  # a place without its text is still a place
        remember_source(path, text)
    lines = _lines[path]
    return lines[line - 1].rstrip("\r") if 0 < line <= len(lines) else None


def _caret(source: str, point: Span) -> str:
    start = min(point.column - 1, len(source))
    end = point.end_column - 1 if point.end_line == point.line else len(source)
    padding = "".join(char if char == "\t" else " " * _columns(char) for char in source[:start])
    width = sum(_columns(char) for char in source[start:end])
    return padding + "^" + "~" * (width - 1)


def _columns(char: str) -> int:
    """Return how many columns of a terminal a character takes."""
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
