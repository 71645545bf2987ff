"""Whatever text is given, the front end returns a program or says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.compiler.diagnostics import CompileErrors
from tokenloom.compiler.frontend import syntax as s
from tokenloom.compiler.frontend.call_order import walk
from tokenloom.compiler.frontend.check import check_file
from tokenloom.compiler.frontend.parse import parse

PROGRAM = '''model smol = "tiny" { dtype = float16 }
const LIMIT = 3
type Verdict = { winner: "for" | "against", why: text(max = 40)?, marks: [int(0..10)] }
tool look(query: text, n: int = 2) -> [text] {
    command = ["rg", "{query}"]
    takes   = 1.5s
    effect
}
agent Judge { model = smol }
agent Debater(name: text, side: "for" | "against" = "for") {
    model = smol
    system = """
        You are {name}.
          Argue {side}.
        """
    reuse = linked(refresh = 15%)
}
@deadline(2s)
workflow helper(who: Debater, xs: [text]) -> text {
    return who.ask("""{join(xs, ", ")} {{"a"}}""", max = 2 * LIMIT, stop = ["."])
}
workflow main(topic: text, rounds: int(1..8) = 2) -> Verdict {
    let panel = [Debater("Ann"), Debater("Bo", side = "against")]
    var notes = []
    for fact in look(topic) {
        if len(fact) > 3 and fact not in notes { notes = notes + [fact] } else { look("x") }
    }
    let views = gather d in panel for rounds {
        d.ask("{topic} {others} {d.name} {round}", max = 64)
    }
    let short = map v in views { Debater("Cy").ask(v, max = 8) }
    repeat max 3 {
        notes = notes + [helper(panel[0], short)]
        until len(notes) > LIMIT
    }
    match topic { "a" => { fail "no" }  _ => { look("y") } }
    try { look(race { "a", "b" }) } else e { fail e }
    assert -1 < 2 <= 3 or not (topic == "b") else "never"
    let v = Judge.ask("{views}", as = Verdict, max = 96)
    if v.why != none { return { winner: v.winner, why: v.why, marks: [1, 2] } }
    return v
}
test "it" { reply "x" to Judge }
'''
TOKENS = PROGRAM.split() + list('{}()[]".,:=+-?|@#~/%\n\\') + ['"""', "{{", "}}", "é", "日本", "\t"]


def outcome(source: str) -> str | None:
    """The rendered errors of a text, None if it is a program."""
    try:
        check_file(Path("x.loom"), source)
    except CompileErrors as errors:
        return str(errors)
    return None


def test_the_program_is_one() -> None:
    assert outcome(PROGRAM) is None


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=80))
def test_any_text(source: str) -> None:
    outcome(source)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(TOKENS), max_size=40))
def test_any_tokens(tokens: list[str]) -> None:
    outcome(" ".join(tokens))
    outcome("workflow w() -> text {\n" + " ".join(tokens) + "\n}\n")


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_any_change_of_a_program(data: st.DataObject) -> None:
    source = PROGRAM
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(source)))
        end = min(len(source), start + data.draw(st.integers(0, 12)))
        source = source[:start] + data.draw(st.sampled_from(["", " ", *TOKENS])) + source[end:]
    outcome(source)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_two_words_swapped(data: st.DataObject) -> None:
    words = PROGRAM.split(" ")
    first, second = (data.draw(st.integers(0, len(words) - 1)) for _ in range(2))
    words[first], words[second] = words[second], words[first]
    outcome(" ".join(words))


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r"), max_size=60))
def test_an_escaped_text_has_the_value_it_was_made_from(value: str) -> None:
    escaped = "".join(f"\\u{{{ord(char):x}}}" for char in value)
    decl = parse(Path("x.loom"), f'const A = "{escaped}"\n').declarations[0]
    assert isinstance(decl, s.ConstDecl)
    assert isinstance(decl.value, s.Text)
    assert decl.value.constant == value


def test_every_span_lies_within_that_of_its_parent() -> None:
    module = parse(Path("x.loom"), PROGRAM)
    lines = PROGRAM.split("\n")
    for node in walk(module):
        span = node.span
        assert (span.line, span.column) <= (span.end_line, span.end_column)
        assert span.end_column - 1 <= len(lines[span.end_line - 1])
        if isinstance(node, s.Name):
            assert lines[span.line - 1][span.column - 1 : span.end_column - 1] == node.name


@pytest.mark.parametrize("depth", [20, 60, 140, 1000])
@pytest.mark.parametrize(
    ("before", "middle", "after"),
    [
        ("(", "1", ")"),
        ("not ", "true", ""),
        ("[", "1", "]"),
        ("{a: ", "1", "}"),
        ('"{', "1", '}"'),
        ("1 < (", "1", ") < 2"),
        ("f(", "1", ")"),
        ("map x in [1] { ", "1", " }"),
        ("gather a in [Judge] for 1 { ", '"{others}"', " }"),
        ('gather a in [Judge] for 1 { join(others, "") + join(', "[]", ', "") }'),
        ("race { ", "1", " }"),
    ],
)
def test_deep_nesting_is_an_error_at_most(depth: int, before: str, middle: str, after: str) -> None:
    value = before * depth + middle + after * depth
    prelude = 'model m = "tiny"\nagent Judge { model = m }\n'
    outcome(f"{prelude}workflow w() -> text {{\n    return {value}\n}}\n")
