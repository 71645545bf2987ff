"""From a file to its syntax tree, or to its syntax errors with what was expected.

After an error it goes on at the next declaration that starts a line. Knows no names and no types.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from lark import Lark
from lark import Token as LarkToken
from lark.exceptions import UnexpectedToken
from lark.lexer import Lexer

from tokenloom.compiler.diagnostics import CompileError, CompileErrors, remember_source
from tokenloom.compiler.frontend.expected import describe_unexpected
from tokenloom.compiler.frontend.scan import Scanner, Token
from tokenloom.compiler.frontend.syntax import Declaration, Module, Span
from tokenloom.compiler.frontend.tree import Actions

_DECLARATIONS = frozenset((
    "IMPORT", "MODEL", "TOOL", "TYPE", "AGENT", "WORKFLOW", "TEST", "CONST", "ATTRIBUTE",
    "ATTRIBUTE_OPEN",
))  # fmt: skip


class TokenStream(Lexer):
    """Hands lark the tokens that the scanner made."""

    def __init__(self, lexer_conf: object) -> None:
        pass

    def lex(self, lexer_state: object, parser_state: object) -> Iterator[LarkToken]:
        """Return the tokens given as the text."""
        return iter(cast("list[LarkToken]", lexer_state))


def grammar_text() -> str:
    """Return the grammar as lark reads it."""
    return (files(__package__ or "") / "grammar.lark").read_text(encoding="utf-8")


@cache
def _parser() -> Lark:
    """Return the parser; its tables are cached on disk, keyed by grammar and lark version."""
    folder = _cache_folder()
    options: dict[str, Any] = {"parser": "lalr", "lexer": TokenStream, "transformer": Actions()}
    if folder is not None:
        options["cache"] = str(folder / "grammar.tables")
    return Lark(grammar_text(), **options)


def _cache_folder() -> Path | None:
    """Return a folder to write the tables to, None where there can be none."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(os.environ.get("TOKENLOOM_CACHE") or Path(home) / "tokenloom")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a read-only home costs 0.1 s a start, not the command
        return None
    return folder if os.access(folder, os.W_OK) else None


def parse(path: Path, source: str | None = None) -> Module:
    """Return the syntax tree of a file, or of `source` as if it were that file's text.

    Raises `CompileErrors`, also where the file cannot be read.
    """
    name = str(path)
    text = (read_source(path) if source is None else source).replace("\r\n", "\n")
    text = text.removeprefix("\ufeff")
    remember_source(name, text)
    scanner = Scanner(name, text)
    try:
        tokens = scanner.scan()
    except CompileError as error:
        raise CompileErrors([error]) from None
    declarations = _parse_tokens(name, tokens)
    lines = text.split("\n")
    span = Span(name, 1, 1, len(lines), len(lines[-1]) + 1)
    return Module(span, text, declarations, tuple(scanner.comments))


def read_source(path: Path) -> str:
    """Return the text of a file; raises `CompileErrors` if there is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CompileErrors([CompileError(f"{path} cannot be read: {reason}")]) from None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        good = data[: error.start].decode("utf-8").split("\n")
        place = Span(str(path), len(good), len(good[-1]) + 1, len(good), len(good[-1]) + 2)
        remember_source(str(path), data.decode("utf-8", errors="replace"))
        raise CompileErrors([CompileError("the file is not UTF-8", place)]) from None


def _parse_tokens(path: str, tokens: list[Token]) -> tuple[Declaration, ...]:
    errors: list[CompileError] = []
    declarations: tuple[Declaration, ...] = ()
    end = tokens[-1].span if tokens else Span(path, 1, 1, 1, 1)
    final = Token(
        "$END", "", Span(path, end.end_line, end.end_column, end.end_line, end.end_column + 1)
    )
    start: int | None = 0
    while start is not None:
        interactive = cast(Any, _parser()).parse_interactive([])
        failed = _feed(interactive, tokens, start, errors)
        if failed is None:
            failed = len(tokens)
            try:
                declarations = interactive.parser_state.feed_token(final, True)
            except UnexpectedToken:
                errors.append(describe_unexpected(interactive.accepts(), final, tokens))
        start = _next_declaration(tokens, failed)
    if errors:
        raise CompileErrors(errors)
    return declarations


def _feed(parser: Any, tokens: list[Token], start: int, errors: list[CompileError]) -> int | None:
    """Parse from a place; returns the index of the token in error, None if there is none."""
    feed = parser.parser_state.feed_token
    index = start
    try:
        for index in range(start, len(tokens)):
            feed(tokens[index])
    except UnexpectedToken:
        errors.append(describe_unexpected(parser.accepts(), tokens[index], tokens[:index]))
    except CompileError as error:
        errors.append(error)
    else:
        return None
    return index


def _next_declaration(tokens: list[Token], after: int) -> int | None:
    """Return the index of the next declaration that starts a line."""
    for index in range(after + 1, len(tokens)):
        if tokens[index].span.column == 1 and tokens[index].type in _DECLARATIONS:
            return index
    return None
