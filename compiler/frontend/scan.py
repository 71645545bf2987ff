"""From characters to tokens: what a regular grammar cannot say about Loom's lexis.

It decides which newlines end a statement, which braces open blocks, and where a text or an
interpolation ends. It knows nothing of the grammar beyond the last token and the open brackets.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from tokenloom.compiler.diagnostics import CompileError, Note
from tokenloom.compiler.frontend.syntax import Comment, Span

KEYWORDS = frozenset((
    "import", "model", "tool", "type", "agent", "workflow", "test", "const", "as", "let", "var",
    "if", "else", "match", "repeat", "until", "max", "for", "in", "try", "return", "assert",
    "fail", "gather", "map", "race", "first", "of", "timeout", "and", "or", "not", "none",
    "true", "false", "secret",
))  # fmt: skip
MAX_NESTING = 150
"""Brackets and operators that may be open at one place: a bound on the depth of the tree."""

_CODE = re.compile(
    r"""
    (?P<SPACE>[ \t\r]+)
    | (?P<NEWLINE>\n)
    | (?P<COMMENT>\#[^\n]*)
    | (?P<NAME>[^\W\d](?:\w|[^\x00-\x7f\s])*)
    | (?P<DURATION>[0-9]+(?:\.[0-9]+)?(?:ms|s|min)(?!\w))
    | (?P<PERCENT>[0-9]+(?:\.[0-9]+)?%(?=[ \t\r]*(?:[)\],}\n#]|\Z)))
    | (?P<FLOAT>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
    | (?P<INT>[0-9]+)
    | (?P<TEXT>\"\"\"|\")
    | (?P<ATTRIBUTE>@[^\W\d]\w*\(?)
    | (?P<PUNCTUATION>=>|->|==|!=|<=|>=|\.\.|//|[-+*/%<>=()\[\]{},.:|?~])
    """,
    re.VERBOSE,
)
_PUNCTUATION = {
    "=>": "FATARROW", "->": "ARROW", "..": "DOTDOT", "=": "ASSIGN", "(": "LPAREN", ")": "RPAREN",
    "[": "LBRACKET", "]": "RBRACKET", "}": "RBRACE", ",": "COMMA", ".": "DOT", ":": "COLON",
    "|": "PIPE", "?": "QUESTION", "~": "TILDE", "+": "SIGN", "-": "SIGN",
}  # fmt: skip
_WORD_TYPES = {word: word.upper() for word in KEYWORDS} | {"and": "OPERATOR", "or": "OPERATOR"}
_REGEX = re.compile(r"[ \t]*/((?:[^/\\\n]|\\[^\n])+)/")
_ONE_LINE = re.compile(r'(?:[^"\\{}\n]+|\{\{|\}\}|\\u\{[^"{}\n]*\}|\\[^\n])+')
_MANY_LINES = re.compile(r'(?:[^"\\{}]+|"(?!"")|\{\{|\}\}|\\u\{[^"{}\n]*\}|\\[^\n])+')
_ESCAPE = re.compile(r"\\(?:[nt\"\\]|u\{([0-9a-fA-F]{1,6})\})")
_QUOTE = re.compile(r'[ \t]*"')
_LABEL = re.compile(r"\s*:")
_VALUE = re.compile(r"[ \t]*=(?![=>])")

_CONTINUES = frozenset((
    "OPERATOR", "SIGN", "NOT", "IN", "COMMA", "COLON", "DOT", "DOTDOT", "ARROW", "FATARROW",
    "ASSIGN", "PIPE", "TILDE",
))  # fmt: skip
_ENDS_OPERAND = frozenset((
    "NAME", "INT", "FLOAT", "TEXT_END", "RPAREN", "RBRACKET", "RBRACE", "NONE", "TRUE", "FALSE",
    "DURATION", "PERCENT", "QUESTION", "REGEX", "ELSE", "TRY", "FATARROW",
))  # fmt: skip
_LABELS = frozenset(("max", "model", "timeout"))  # keywords that name arguments and settings
_DECLARES = frozenset(("LET", "VAR", "CONST", "TYPE", "MODEL"))
_DEEPENS = frozenset(["OPERATOR", "SIGN", "NOT", "IN", "DOT", "ELSE", "QUESTION", "SECRET"])
_RESETS = frozenset(("COMMA", "NEWLINE", "ASSIGN"))
_CLOSERS = {"(": ")", "[": "]", "{": "}", "block": "}", "interpolation": "}", "text": "}"}


class Token(NamedTuple):
    """A terminal of the grammar with its place."""

    type: str
    value: str
    span: Span


class Scanner:
    """Reads one text; `tokens` and `comments` are complete after `scan`."""

    def __init__(self, path: str, source: str) -> None:
        self.path = path
        self.source = source
        self.tokens: list[Token] = []
        self.comments: list[Comment] = []
        self._at = 0
        self._line = 1
        self._line_start = 0
        self._open: list[tuple[str, Span, int]] = []  # bracket, its place, depth around it
        self._depth = 0
        self._last = "NEWLINE"
        self._newline: Span | None = None

    def scan(self) -> list[Token]:
        """Return the tokens; raises `CompileError` at the first text that is none."""
        handlers = {
            "NEWLINE": self._scan_newline,
            "COMMENT": self._scan_comment,
            "NAME": self._scan_name,
            "TEXT": self._scan_text_start,
            "ATTRIBUTE": self._scan_attribute,
            "PUNCTUATION": self._scan_punctuation,
        }
        match = _CODE.match
        while self._at < len(self.source):
            found = match(self.source, self._at)
            if found is None:
                raise self._bad_character()
            kind = found.lastgroup or ""
            if kind == "SPACE":
                self._at = found.end()
            elif kind in handlers:
                handlers[kind](found.group())
            else:
                self._emit(kind, found.group())
        if self._open:
            bracket, place, _ = self._open[-1]
            raise CompileError(f"`{_CLOSERS[bracket]}` is missing: this is never closed", place)
        return self.tokens

    def _span(self, length: int) -> Span:
        column = self._at - self._line_start + 1
        return Span(self.path, self._line, column, self._line, column + length)

    def _emit(self, kind: str, text: str) -> None:
        if self._newline is not None:
            if kind != "RBRACE":
                self.tokens.append(Token("NEWLINE", "\n", self._newline))
            self._newline = None
            self._depth = self._open[-1][2] + 1 if self._open else 0
        span = self._span(len(text))
        if kind in _DEEPENS:
            self._deepen(span)
        elif kind in _RESETS:
            self._depth = self._open[-1][2] + 1 if self._open else 0
        self.tokens.append(Token(kind, text, span))
        self._last = kind
        self._at += len(text)

    def _deepen(self, span: Span) -> None:
        self._depth += 1
        if self._depth > MAX_NESTING:
            help_ = Note("name a part of it with `let`", kind="help")
            raise CompileError(f"nested more than {MAX_NESTING} levels deep", span, [help_])

    def _push(self, bracket: str, kind: str, text: str) -> None:
        place = self._span(len(text))
        self._emit(kind, text)
        self._deepen(place)
        self._open.append((bracket, place, self._depth - 1))

    def _pop(self, text: str) -> str:
        if not self._open or _CLOSERS[self._open[-1][0]] != text:
            notes: list[Note] = []
            if self._open:
                bracket, place, _ = self._open[-1]
                notes = [Note(f"`{_CLOSERS[bracket]}` is expected to close this", place)]
            raise CompileError(f"`{text}` closes nothing", self._span(1), notes)
        bracket, _, self._depth = self._open.pop()
        return bracket

    def _scan_newline(self, text: str) -> None:
        bracket = self._open[-1][0] if self._open else "block"
        if bracket == "text":
            raise CompileError('a `"` text ends on its line; use `"""` for more', self._span(1))
        skipped = self._last in _CONTINUES or self._last in ("LBLOCK", "NEWLINE")
        if bracket == "block" and not skipped and self._newline is None:
            self._newline = self._span(1)
        self._at += 1
        self._line += 1
        self._line_start = self._at

    def _scan_comment(self, text: str) -> None:
        own_line = not self.source[self._line_start : self._at].strip()
        self.comments.append(Comment(self._span(len(text)), text[1:].rstrip("\r"), own_line))
        self._at += len(text)

    def _scan_name(self, text: str) -> None:
        kind = _WORD_TYPES.get(text)
        if kind is None:
            if not text.isidentifier():  # the pattern lets in marks, and what is none with them
                raise CompileError(f"`{text}` is no name", self._span(len(text)))
            self._emit(self._soft_keyword(text), text)
            if not text.isascii():
                last = self.tokens[-1]
                self.tokens[-1] = last._replace(value=unicodedata.normalize("NFC", text))
        else:
            self._emit("NAME" if self._is_label(text) else kind, text)

    def _soft_keyword(self, text: str) -> str:
        """`reply` before a text and `to` after one; no name can stand there."""
        if text == "to" and self._last == "TEXT_END" and self._newline is None:
            return "TO"
        if text == "reply" and _QUOTE.match(self.source, self._at + len(text)):
            return "REPLY"
        return "NAME"

    def _is_label(self, word: str) -> bool:
        """Whether a keyword labels a field, an argument or a setting here."""
        end = self._at + len(word)
        if self._last == "DOT":
            return True
        if self._open and self._open[-1][0] == "{" and _LABEL.match(self.source, end):
            return True
        may_label = word in _LABELS and self._last not in _DECLARES
        return may_label and _VALUE.match(self.source, end) is not None

    def _scan_attribute(self, text: str) -> None:
        if text.endswith("("):
            self._push("(", "ATTRIBUTE_OPEN", text)
        else:
            self._emit("ATTRIBUTE", text)

    def _scan_punctuation(self, text: str) -> None:
        if text == "{":
            is_block = self._last in _ENDS_OPERAND and self._newline is None
            self._push("block" if is_block else "{", "LBLOCK" if is_block else "LBRACE", text)
        elif text in ("(", "["):
            self._push(text, _PUNCTUATION[text], text)
        elif text in (")", "]", "}"):
            self._close(text)
        else:
            self._emit(_PUNCTUATION.get(text, "OPERATOR"), text)
            if text == "~":
                self._scan_regex()

    def _close(self, text: str) -> None:
        bracket = self._pop(text)
        if bracket in ("interpolation", "text"):
            self._emit("INTERPOLATION_END", text)
            self._scan_pieces(multiline=bracket == "interpolation")
        else:
            self._emit(_PUNCTUATION[text], text)

    def _scan_regex(self) -> None:
        found = _REGEX.match(self.source, self._at)
        if found is None:
            help_ = Note("write `text ~ /[a-z]+/`", kind="help")
            raise CompileError("a regex is expected after `~`", self._span(1), [help_])
        self._at = found.start(1) - 1
        self._emit("REGEX", found.group().lstrip())

    def _scan_text_start(self, text: str) -> None:
        self._emit("TEXT_START", text)
        self._scan_pieces(multiline=len(text) == 3)

    def _scan_pieces(self, *, multiline: bool) -> None:
        """Read fixed text up to the next interpolation or the end of the text."""
        found = (_MANY_LINES if multiline else _ONE_LINE).match(self.source, self._at)
        if found is not None:
            self._emit_piece(found.group())
        quotes = '"""' if multiline else '"'
        if self.source.startswith(quotes, self._at):
            self._emit("TEXT_END", quotes)
        elif self.source.startswith("{", self._at):
            self._push("interpolation" if multiline else "text", "INTERPOLATION_START", "{")
        elif self.source.startswith("}", self._at):
            help_ = Note("write `}}` for a brace", kind="help")
            raise CompileError("`}` in a text closes nothing", self._span(1), [help_])
        else:
            raise CompileError(f"`{quotes}` is missing: this text is never closed", self._start())

    def _start(self) -> Span:
        """Return the place of the opening quotes of the text being read."""
        depth = 0
        for token in reversed(self.tokens):
            depth += (token.type == "TEXT_END") - (token.type == "TEXT_START")
            if depth < 0:
                return token.span
        raise AssertionError("a piece outside of a text")

    def _emit_piece(self, text: str) -> None:
        start = self._span(0)
        for escape in re.finditer(r"\\u\{[^{}]*\}|\\.", text):
            self._check_escape(escape.group(), text, escape.start())
        begin = self._at
        lines = text.count("\n")
        if lines:
            self._line += lines
            self._line_start = begin + text.rindex("\n") + 1
        self._at = begin + len(text)
        self.tokens.append(Token("TEXT_PIECE", text, start.to(self._span(0))))
        self._last = "TEXT_PIECE"

    def _check_escape(self, escape: str, text: str, offset: int) -> None:
        found = _ESCAPE.fullmatch(escape)
        code = int(found[1], 16) if found and found[1] else 0
        if found is None or code > 0x10FFFF or 0xD800 <= code < 0xE000:
            line = self._line + text.count("\n", 0, offset)
            column = self._at + offset - self._line_start + 1
            if "\n" in text[:offset]:
                column = offset - text.rindex("\n", 0, offset)
            place = Span(self.path, line, column, line, column + len(escape))
            known = Note(r"escapes are \n \t \" \\ \u{1F600}, braces {{ and }}", kind="help")
            raise CompileError(f"`{escape}` is no escape", place, [known])

    def _bad_character(self) -> CompileError:
        char = self.source[self._at]
        shown = char if char.isprintable() else f"U+{ord(char):04X}"
        notes = {
            "'": [Note('texts are written `"..."`', kind="help")],
            "!": [Note("write `not`", kind="help")],
            "&": [Note("write `and`", kind="help")],
            ";": [Note("a newline ends a statement", kind="help")],
        }
        return CompileError(f"`{shown}` has no meaning here", self._span(1), notes.get(char, []))
