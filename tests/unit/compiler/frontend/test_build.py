"""The values that built programs have, by the reference interpreter, and the shape of their IR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from xdsl.dialects.builtin import FileLineColLoc, ModuleOp
from xdsl.dialects.scf import ForOp, IfOp, WhileOp

from tokenloom.compiler.diagnostics import CompileError
from tokenloom.ir.declarations import ReturnOp, WorkflowOp
from tokenloom.ir.flow import AskOp, EffectOp, GatherOp, InvokeOp, MapOp, TokenOp
from tokenloom.runtime.errors import RunError
from tokenloom.runtime.executor import Outcome

Build = Callable[..., ModuleOp]
Run = Callable[..., Outcome]


def ops(module: ModuleOp, kind: type[Any]) -> list[Any]:
    return [op for op in module.walk() if isinstance(op, kind)]


@pytest.mark.parametrize(
    ("expression", "result", "value"),
    [
        ("1 + 2 * 3", "int", 7),
        ("7 // 2 - -1", "int", 4),
        ("7 % 4", "int", 3),
        ("1 / 4", "float", 0.25),
        ("7 // len([2, 3])", "int", 3),
        ("7 % len([2, 3])", "int", 1),
        ("3", "float", 3.0),
        ('"a" + "b{1 + 1}"', "text", "ab2"),
        ('"{[1, 2]}|{none}|{true}"', "text", "1\n2||true"),
        ('"{{}}{ {a: "é", b: 1} }"', "text", '{}{"a":"é","b":1}'),
        ('join(["a", "b"], "-")', "text", "a-b"),
        ('len("añ") + len([1, 2, 3])', "int", 5),
        ("1 < 2 < 3", "bool", True),
        ("1 < 3 <= 2", "bool", False),
        ('"a" in ["a", "b"] and not ("x" in "abc")', "bool", True),
        ("false or 2 > 1", "bool", True),
        ('["x", "y"][-1]', "text", "y"),
        ('{b: [1], a: "x"}', "{a: text, b: [float], c: text?}", {"a": "x", "b": [1.0], "c": None}),
        ("[1] + [2.5]", "[float]", [1.0, 2.5]),
        ("[]", "[text]", []),
        ("none", "int?", None),
    ],
)
def test_expressions(run: Run, expression: str, result: str, value: Any) -> None:
    found = run(f"return {expression}", result).value
    assert found == value
    assert type(found) is type(value)


RETURNS = """
if n < 1 { return 10 }
var x = 0
if n < 5 {
    x = 1
    if n == 2 { return 20 }
    if n == 3 {
        x = 2
    } else {
        if n == 4 { return 40 }
    }
} else {
    repeat 3 {
        x = x + 1
        if x == n - 5 { return 100 + x }
        x = x + 1
    }
}
repeat max 4 {
    x = x + 10
    if x + n == 41 { return x }
    until x > 30
}
return x + 1000
"""


@pytest.mark.parametrize(
    ("n", "value"),
    list(enumerate([10, 1031, 20, 1032, 40, 36, 101, 1036, 103, 1036])),
)
def test_return_leaves_the_workflow_wherever_it_stands(run: Run, n: int, value: int) -> None:
    assert run(RETURNS, n=n).value == value


def test_loops_carry_what_they_change(run: Run) -> None:
    body = """
    var a = 0
    var b = 1
    var seen = ""
    for w in words {
        let t = a + b
        a = b
        b = t
        if w == "skip" { seen = seen + "!" } else { seen = seen + w }
    }
    return "{a} {b} {seen}"
    """
    assert run(body, "text", words=["x", "skip", "y"]).value == "2 3 x!y"


def test_repeat_max_stops_at_its_condition_or_its_bound(run: Run) -> None:
    body = "var n = 0\nrepeat max {} {{\nn = n + 1\nuntil n >= {}\n}}\nreturn n"
    assert run(body.format(5, 3)).value == 3
    assert run(body.format(2, 9)).value == 2


def test_a_map_with_a_branch_gives_none_where_it_is_not_taken(run: Run) -> None:
    body = 'return map w in words {\nif w != "b" { "{w}!" }\n}'
    assert run(body, "[text?]", words=["a", "b", "c"]).value == ["a!", None, "c!"]


def test_a_narrowed_optional_is_its_value(run: Run) -> None:
    maybe = 'workflow maybe(x: text) -> text? {\nif x == "" { return none }\nreturn x\n}\n'
    body = 'let x = maybe(w)\nif x == none { return "?" }\nreturn x + "."'
    assert run(body, "text", maybe, w="").value == "?"
    assert run(body, "text", maybe, w="a").value == "a."


def test_a_failed_assert_and_a_fail_have_their_place(run: Run) -> None:
    with pytest.raises(RunError, match=r"n is 2") as caught:
        run('assert n < 2 else "n is {n}"\nreturn n', n=2)
    assert "main.loom:8:1" in str(caught.value)
    with pytest.raises(RunError, match="no luck"):
        run('if n == 2 { fail "no luck" }\nreturn n', n=2)
    assert run('if n == 2 { fail "no luck" }\nreturn n', n=3).value == 3


def test_the_message_of_an_assert_is_computed_only_where_it_fails(run: Run) -> None:
    body = """
    assert len(words) < 2 else "{words[2]} {Solo.ask("x", max = 1)}"
    return len(words)
    """
    outcome = run(body, words=["a"])
    assert (outcome.value, outcome.asks) == (1, ())
    with pytest.raises(RunError, match=r"main\.loom:9:5: c "):
        run(body, words=["a", "b", "c"])


def test_places_are_those_of_the_source(built: Build) -> None:
    module = built('workflow main() -> text {\n    return Solo.ask("hi", max = 1)\n}')
    (ask,) = ops(module, AskOp)
    assert ask.place.data == "main.loom:8:12"
    assert isinstance(ask.location, FileLineColLoc)
    assert (ask.location.line.data, ask.location.column.data) == (8, 12)


def test_control_flow_keeps_its_form(built: Build) -> None:
    module = built("""workflow main(words: [text], rounds: int(1..3)) -> text {
        let team = [Named("a"), Named("b")]
        for w in words { Named(w).ask(w, max = 1) }
        for t in team { t.ask("x", max = 1) }
        gather t in team for rounds { t.ask("{others}", max = 1) }
        repeat max 3 {
            let a = Solo.ask("x", max = 1)
            until a == ""
        }
        return "done"
    }""")
    assert len(ops(module, GatherOp)) == 1
    assert len(ops(module, MapOp)) == 1  # the parallel loop over agents
    (loop,) = ops(module, ForOp)
    assert not loop.iter_args  # parallel
    (until,) = ops(module, WhileOp)
    assert len(until.res) == 2  # the count and the history


def test_an_if_that_ends_the_program_yields_only_the_result(built: Build) -> None:
    module = built("""workflow main(n: int) -> text {
        let a = Solo.ask("x", max = 1)
        if n > 1 { return Solo.ask("y", max = 1) }
        let b = Solo.ask("z", max = 1)
        return b
    }""")
    (branch,) = ops(module, IfOp)
    assert len(branch.output) == 1


def test_a_workflow_that_takes_agents_is_private(built: Build) -> None:
    module = built("""workflow inner(a: Named) -> text { return a.ask("x", max = 1) }
    workflow main() -> text { return inner(Named("a")) }""")
    inner, main = ops(module, WorkflowOp)
    assert "sym_visibility" in inner.attributes
    assert "sym_visibility" not in main.attributes
    (call,) = ops(module, InvokeOp)
    assert len(call.values) == 2


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("match n {\n 1 => { }\n _ => { }\n}", "`match`"),
        ('try { Solo.ask("x", max = 1) } else e { fail e }', "`try`"),
        ('let r = race { "x", "y" }', "`race`"),
        ('let f = first 1 of { "x", "y" }', "`first k of`"),
        ('let g = gather s in [Solo] until n > 1 max 2 { s.ask("x", max = 1) }', "until"),
        ('let g = gather s in [Solo] for 1 timeout 5s { s.ask("x", max = 1) }', "timeout"),
        ('var v = Named("x")\nv.ask("y", max = 1)', "a `var` that holds agents"),
    ],
)
def test_forms_that_are_not_lowered_say_so(built: Build, statement: str, what: str) -> None:
    with pytest.raises(CompileError, match="is not supported yet") as caught:
        built(f"workflow main(n: int(1..3)) -> int {{\n{statement}\nreturn n\n}}")
    assert what in str(caught.value)
    assert "main.loom:8:" in str(caught.value) or "main.loom:9:" in str(caught.value)


EFFECT = 'tool note(line: text) -> text {\nimpl = "tools:note"\neffect\n}\n'


def test_effects_are_chained_through_loops_and_maps(built: Build) -> None:
    module = built(
        EFFECT
        + """workflow main(words: [text]) -> text {
        note("first")
        for w in words { note(w) }
        let all = map w in words { note(w) }
        if len(all) > 2 { return note("many") }
        return note("few")
    }"""
    )
    (start,) = ops(module, TokenOp)
    (first, *_), (loop,), (each,) = ops(module, EffectOp), ops(module, ForOp), ops(module, MapOp)
    assert first.token is start.token
    assert list(loop.iter_args) == [first.next]
    assert list(each.carried) == [loop.res[0]]
    (end,) = ops(module, ReturnOp)
    (branch,) = ops(module, IfOp)
    assert set(end.values) == set(branch.output)


def test_effects_in_a_gather_are_not_lowered_yet(built: Build) -> None:
    with pytest.raises(CompileError, match="is not supported yet"):
        built(
            EFFECT + 'workflow main() -> [text] { return gather s in [Solo] for 1 { note("x") } }'
        )


def early_returns(count: int) -> str:
    return "\n".join(f"if n == {index} {{ return {index} + 1000 }}" for index in range(count))


def test_many_early_returns_nest(run: Run) -> None:
    assert run(f"{early_returns(60)}\nreturn 0", n=59).value == 1059
    assert run(f"{early_returns(60)}\nreturn 0", n=60).value == 0


def test_too_many_early_returns_are_an_error_with_its_place(built: Build) -> None:
    with pytest.raises(CompileError, match="nested more than 64 levels deep") as caught:
        built(f"workflow main(n: int) -> int {{\n{early_returns(500)}\nreturn 0\n}}")
    assert "main.loom:71:" in str(caught.value)
