"""The words of a syntax error: what was found, what was expected, what to do.

Knows the names of the grammar's terminals, nothing of its rules.
"""

from __future__ import annotations

from tokenloom.compiler.diagnostics import CompileError, Note, suggest
from tokenloom.compiler.frontend.scan import KEYWORDS, Token

_SIGNS = {
    "LBLOCK": "`{`", "LBRACE": "`{`", "RBRACE": "`}`", "LPAREN": "`(`", "RPAREN": "`)`",
    "LBRACKET": "`[`", "RBRACKET": "`]`", "COMMA": "`,`", "COLON": "`:`", "DOT": "`.`",
    "DOTDOT": "`..`", "ARROW": "`->`", "FATARROW": "`=>`", "ASSIGN": "`=`", "PIPE": "`|`",
    "QUESTION": "`?`", "TILDE": "`~`", "NEWLINE": "a new line", "NAME": "a name",
    "TEXT_START": "a text", "INTERPOLATION_END": "`}`", "REGEX": "a regex", "INT": "a number",
    "$END": "the end of the file", "OPERATOR": "an operator",
}  # fmt: skip
_STARTS_EXPRESSION = frozenset(("FLOAT", "GATHER", "RACE"))
_STARTS_STATEMENT = frozenset(("LET", "RETURN"))
_STARTS_DECLARATION = frozenset(("WORKFLOW", "AGENT"))
_STARTS_TYPE = frozenset(("SECRET", "LBRACE"))
_CONTINUES_OPERAND = frozenset(
    ("OPERATOR", "SIGN", "IN", "NOT", "DOT", "LPAREN", "LBRACKET", "PIPE", "TILDE", "QUESTION")
)
_MAX_LISTED = 5


def describe_unexpected(accepted: set[str], token: Token, before: list[Token]) -> CompileError:
    """Return the error for a token that is none of the accepted ones."""
    found = _found(token)
    wanted = _wanted(accepted)
    message = f"expected {wanted}, found {found}" if wanted else f"{found} cannot stand here"
    return CompileError(message, token.span, _advice(token, accepted, before))


def _found(token: Token) -> str:
    if token.type == "$END":
        return "the end of the file"
    if token.type == "NEWLINE":
        return "the end of the line"
    if token.type in ("TEXT_START", "TEXT_PIECE"):
        return "a text"
    return f"`{token.value}`"


def _wanted(accepted: set[str]) -> str:
    if accepted >= _STARTS_STATEMENT:
        return "a statement"
    if accepted >= _STARTS_DECLARATION:
        return "a declaration"
    if accepted >= _STARTS_EXPRESSION:
        return "an expression"
    if accepted >= _STARTS_TYPE:
        return "a type"
    if "OPERATOR" in accepted:  # an operand may always go on: say only what else may follow
        accepted = accepted - _CONTINUES_OPERAND
    elif len(accepted) > 1:
        accepted = accepted - {"TILDE", "QUESTION", "PIPE"} or accepted
    words = sorted({_SIGNS.get(kind, f"`{kind.lower()}`") for kind in accepted})
    if not words or len(words) > _MAX_LISTED:
        return ""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _advice(token: Token, accepted: set[str], before: list[Token]) -> list[Note]:
    if token.type == "ELSE" and before and before[-1].type == "NEWLINE":
        return [Note("`else` stands on the line of the `}`", kind="help")]
    if token.value in KEYWORDS and "NAME" in accepted:
        return [Note(f"`{token.value}` is a keyword: take another name", kind="help")]
    if token.type == "ASSIGN" and "OPERATOR" in accepted:
        return [Note("compare with `==`; only names are assigned", kind="help")]
    if token.type == "NAME":
        wanted = [kind.lower() for kind in accepted if kind.lower() in KEYWORDS]
        return list(suggest(token.value, wanted))
    previous = before[-1] if before else None
    if previous is not None and previous.type == "NAME" and token.type != "NEWLINE":
        return list(suggest(previous.value, KEYWORDS))
    return []
