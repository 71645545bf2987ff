from __future__ import annotations

import pytest

from tokenloom.compiler.diagnostics import CompileError
from tokenloom.compiler.frontend.scan import MAX_NESTING, Scanner


def kinds(source: str) -> str:
    return " ".join(token.type for token in Scanner("x.loom", source).scan())


def test_a_newline_ends_a_statement_but_not_inside_brackets_or_after_an_operator() -> None:
    assert kinds("a\nb") == "NAME NEWLINE NAME"
    assert kinds("f(a,\n  b\n)\n") == "NAME LPAREN NAME COMMA NAME RPAREN"
    assert kinds("a +\n\n b") == "NAME SIGN NAME"
    assert kinds("a\n+ b") == "NAME NEWLINE SIGN NAME"
    assert kinds("= {\n a: 1\n}") == "ASSIGN LBRACE NAME COLON INT RBRACE"


def test_newlines_at_the_ends_of_a_block_are_no_tokens() -> None:
    assert kinds("if a {\n\n  b\n  c\n\n}\n\nd") == (
        "IF NAME LBLOCK NAME NEWLINE NAME RBRACE NEWLINE NAME"
    )


def test_a_block_inside_parentheses_has_its_own_newlines() -> None:
    assert kinds("(map x in y {\n a\n b\n})") == (
        "LPAREN MAP NAME IN NAME LBLOCK NAME NEWLINE NAME RBRACE RPAREN"
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("15%", "PERCENT"),
        ("(15%)", "LPAREN PERCENT RPAREN"),
        ("15% 4", "INT OPERATOR INT"),
        ("15 % 4", "INT OPERATOR INT"),
        ("15%x", "INT OPERATOR NAME"),
        ("15% # note", "PERCENT"),
        ("15%\nx", "PERCENT NEWLINE NAME"),
        ("500ms 2s 1.5min", "DURATION DURATION DURATION"),
        ("2sx", "INT NAME"),
        ("0..10", "INT DOTDOT INT"),
        ("1.5e-3", "FLOAT"),
    ],
)
def test_numbers(source: str, expected: str) -> None:
    assert kinds(source) == expected


def test_a_keyword_may_name_a_field_a_record_label_and_a_setting() -> None:
    assert kinds("x.type") == "NAME DOT NAME"
    assert kinds("= {type: 1}") == "ASSIGN LBRACE NAME COLON INT RBRACE"
    assert kinds("f(max = 3)") == "NAME LPAREN NAME ASSIGN INT RPAREN"
    assert kinds("let max = 3") == "LET MAX ASSIGN INT"
    assert kinds("model = x") == "NAME ASSIGN NAME"
    assert kinds('model x = "y"') == "MODEL NAME ASSIGN TEXT_START TEXT_PIECE TEXT_END"


def test_reply_and_to_are_names_elsewhere() -> None:
    assert kinds('reply "x" to Judge') == "REPLY TEXT_START TEXT_PIECE TEXT_END TO NAME"
    assert kinds("let reply = to") == "LET NAME ASSIGN NAME"


def test_interpolations_know_braces_and_quotes() -> None:
    source = '"a {join(xs, "}}, ")} {{b}} {  {k: "}}"}.k }"'
    found = [t.value for t in Scanner("x", source).scan() if t.type == "TEXT_PIECE"]
    assert found == ["a ", "}}, ", " {{b}} ", "}}"]


def test_names_are_normalized_and_comments_kept() -> None:
    scanner = Scanner("x", "e\u0301te\u0301  # début\n# own\n")
    assert scanner.scan()[0].value == "été"
    assert [(c.text, c.own_line, c.span.line) for c in scanner.comments] == [
        (" début", False, 1),
        (" own", True, 2),
    ]


def test_columns_count_code_points() -> None:
    tokens = Scanner("x", 'let 日本 = "東{京}"').scan()
    assert [token.span.column for token in tokens] == [1, 5, 8, 10, 11, 12, 13, 14, 15]


def test_nesting_is_bounded_but_long_lists_are_not() -> None:
    with pytest.raises(CompileError, match="levels deep"):
        kinds("(" * (MAX_NESTING + 1))
    with pytest.raises(CompileError, match="levels deep"):
        kinds("a" + " + a" * (MAX_NESTING + 1))
    assert kinds("[" + "a + b, " * 1000 + "]").count("COMMA") == 1000
