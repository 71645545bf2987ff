from __future__ import annotations

from pathlib import Path

import pytest
from lark import Lark

from tokenloom.compiler.diagnostics import CompileErrors
from tokenloom.compiler.frontend import syntax as s
from tokenloom.compiler.frontend.parse import TokenStream, grammar_text, parse


def expression(source: str) -> s.Expr:
    decl = parse(Path("x.loom"), f"const A = {source}\n").declarations[0]
    assert isinstance(decl, s.ConstDecl)
    return decl.value


def shape(node: s.Expr) -> str:
    """An expression with all its parentheses."""
    match node:
        case s.IntLiteral():
            return str(node.value)
        case s.Name():
            return node.name
        case s.Unary():
            return f"({node.operator} {shape(node.operand)})"
        case s.Binary():
            return f"({shape(node.left)} {node.operator} {shape(node.right)})"
        case s.Comparison():
            rest = zip(node.operators, node.operands[1:], strict=True)
            return f"({shape(node.operands[0])}{''.join(f' {o} {shape(x)}' for o, x in rest)})"
        case s.Field():
            return f"{shape(node.value)}.{node.name.name}"
        case s.Index():
            return f"{shape(node.value)}[{shape(node.index)}]"
        case _:
            return type(node).__name__


def test_the_grammar_is_lalr_without_conflicts() -> None:
    Lark(grammar_text(), parser="lalr", lexer=TokenStream, strict=True)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("1 + 2 * 3 - 4", "((1 + (2 * 3)) - 4)"),
        ("-a * b", "((- a) * b)"),
        ("not a == b and c", "((not (a == b)) and c)"),
        ("a or b and not c", "(a or (b and (not c)))"),
        ("a < b <= c", "(a < b <= c)"),
        ("a not in b", "(a not in b)"),
        ("a in b + c", "(a in (b + c))"),
        ("(1 + 2) * 3", "((1 + 2) * 3)"),
        ("a.b[0].c // 2 % 3", "((a.b[0].c // 2) % 3)"),
        ("1 - -1", "(1 - (- 1))"),
    ],
)
def test_precedence(source: str, expected: str) -> None:
    assert shape(expression(source)) == expected


def test_every_form_of_the_language_parses() -> None:
    module = parse(
        Path("x.loom"),
        """import "lib.loom" as lib
model m = "tiny" { dtype = float16, adapter = "a" }
const N = -3
type T = { a: "x" | "y", b: [text(max = 3)?], c: int(0..N), d: secret text, e: text ~ /a\\/b/ }
tool t(q: text, n: int = 3) -> [lib.T]? {
    command = ["rg", "{q}"]
    takes = 1.5s
    effect
}
agent A { model = lib.m, history = last(3) }
@deadline(2s)
@critical
workflow w(x: T, ys: [text]) -> text {
    let a = A()
    var n = 0
    n = n + 1
    if n == 1 { fail "no" } else if n == 2 { } else {
        assert n > 0 else "x"
    }
    match x.a { "x" => { }  _ => { n = 2 } }
    repeat 3 { a.ask("x", max = 3) }
    repeat max 2 { n = n + 1 until n > 3 }
    repeat max 3 {
        n = n + 1
        until n > 3
    }
    for y in ys { n = n + len(y) }
    try { t("x") } else e { fail e }
    let g = gather d in [a] for 3 timeout 5s { d.ask("{others}", max = 4, as = [int(0..3)]) }
    let h = gather d in [a] until round > 2 max 5 { d.ask("{others}", max = 4) }
    let r = race { @critical a.ask("x", max = 3), t("y") }
    let f = first 2 of {
        t("x"),
        t("y"),
    }
    return "{join(map y in ys { y + "!" }, ", ")} { {a: 1}.a}"
}
test "it" {
    reply "x" to A
    assert lib.w({a: "x"}) == "y"
}
""",
    )
    assert [type(decl).__name__ for decl in module.declarations] == [
        "Import",
        "ModelDecl",
        "ConstDecl",
        "TypeDecl",
        "ToolDecl",
        "AgentDecl",
        "WorkflowDecl",
        "TestDecl",
    ]
    workflow = module.declarations[-2]
    assert isinstance(workflow, s.WorkflowDecl)
    assert [attribute.name.name for attribute in workflow.attributes] == ["deadline", "critical"]
    assert len(workflow.body.statements) == 15


def test_spans_are_of_the_text_they_name() -> None:
    source = 'const LONG = 1 + f(x,\n  "two")\n'
    module = parse(Path("x.loom"), source)
    decl = module.declarations[0]
    assert isinstance(decl, s.ConstDecl)
    assert decl.span[1:] == (1, 1, 2, 9)
    assert isinstance(decl.value, s.Binary)
    assert decl.value.right.span[1:] == (1, 18, 2, 9)


def test_each_broken_declaration_is_reported() -> None:
    with pytest.raises(CompileErrors) as caught:
        parse(Path("x.loom"), "const = 1\nconst B 2\nconst C = 3\nmodel 4\n")
    shown = str(caught.value)
    assert [line for line in range(1, 5) if f"x.loom:{line}:" in shown] == [1, 2, 4]


def test_a_file_that_cannot_be_read_is_an_error_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(CompileErrors) as caught:
        parse(tmp_path / "none.loom")
    assert "cannot be read: no such file" in str(caught.value)
    (tmp_path / "bad.loom").write_bytes(b'const A = "\xff"\n')
    with pytest.raises(CompileErrors) as caught:
        parse(tmp_path / "bad.loom")
    assert "bad.loom:1:12: error: the file is not UTF-8" in str(caught.value)


def test_tables_are_made_where_they_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path / "file" / "cache"))
    from tokenloom.compiler.frontend import parse as module

    module._parser.cache_clear()  # pyright: ignore[reportPrivateUsage] -- the state of a new start
    assert parse(Path("x.loom"), "const A = 1\n").declarations
    module._parser.cache_clear()  # pyright: ignore[reportPrivateUsage]
