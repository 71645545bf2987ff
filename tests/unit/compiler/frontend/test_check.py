from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tokenloom.compiler.diagnostics import CompileErrors
from tokenloom.compiler.frontend import syntax as s
from tokenloom.compiler.frontend.check import check_file
from tokenloom.compiler.frontend.checked import AgentSettings, AgentSymbol, Checked, Local
from tokenloom.compiler.frontend.types import (
    INT,
    TEXT,
    AgentType,
    EnumType,
    IntType,
    ListType,
    OptionalType,
)

Check = Callable[[str], Checked]


def workflow(body: str, parameters: str = "xs: [text]", result: str = "text") -> str:
    return f"workflow main({parameters}) -> {result} {{\n{body}\n}}\n"


def statements(checked: Checked, name: str = "main") -> tuple[s.Statement, ...]:
    return checked.workflows[name].decl.body.statements


def value_type(checked: Checked, name: str) -> object:
    """The type of the local of a let or var."""
    found = [x for x in checked.variables.values() if x.name == name]
    return found[-1].type


def names(roots: tuple[object, ...]) -> list[str]:
    return [getattr(root, "name", "") for root in roots]


def test_a_gather_knows_its_members_outputs_and_rounds(check: Check) -> None:
    checked = check(
        workflow(
            """let panel = [Debater("Ann"), Judge]
    let views = gather d in panel for n {
        d.ask("{others} in round {round}", max = 8)
    }
    return join(views, " ")""",
            "n: int(1..8)",
        )
    )
    (info,) = checked.gathers.values()
    assert info.agents == AgentType(("Debater", "Judge"))
    assert (info.output, info.rounds) == (TEXT, IntType(1, 8))
    assert (info.others.type, info.round.type) == (ListType(TEXT), IntType(1, 8))
    (ask,) = checked.asks.values()
    assert [agent.name for agent in ask.agents] == ["Debater", "Judge"]
    assert ask.max_tokens_bound == 8
    assert names(checked.workflows["main"].bare_agents) == ["Judge"]


def test_others_have_the_type_of_the_body_and_may_be_missing_with_a_timeout(check: Check) -> None:
    checked = check(
        workflow(
            """let views = gather d in [Debater("Ann")] for 2 timeout 5s {
        let side = d.ask("{others}", as = "a" | "b", max = 8)
        {side: side, number: round}
    }
    for v in views { if v != none { post(v.side) } }
    return "done\""""
        )
    )
    (info,) = checked.gathers.values()
    assert str(info.output) == '{side: "a" | "b", number: int(1..2)}'
    assert info.others.type == ListType(OptionalType(info.output))


def test_a_for_is_parallel_only_if_no_iteration_can_see_another(check: Check) -> None:
    checked = check(
        workflow(
            """var n = 0
    let d = Debater("Ann")
    let ds = [Debater("Bo"), Debater("Cy")]
    for x in xs { look(x) }
    for x in xs { n = n + len(x) }
    for x in xs { d.ask(x, max = 4) }
    for x in xs { Judge.ask(x, max = 4) }
    for x in xs { Judge().ask(x, max = 4) }
    for x in xs { post(x) }
    for e in ds { e.ask("x", max = 4) }
    for e in [d, d] { e.ask("x", max = 4) }
    for x in xs { for e in ds { e.ask(x, max = 4) } }
    return "{n}\""""
        )
    )
    loops = {loop.span.line: info for loop, info in checked.loops.items()}
    found = [info.is_parallel for _, info in sorted(loops.items())]
    assert found == [True, False, False, False, True, False, True, False, False]


def test_bodies_know_what_they_do_to_what_is_outside(check: Check) -> None:
    checked = check(
        """workflow helper(who: Debater, other: Debater) -> text {
    return who.ask(other.name, max = 4)
}
workflow main(topic: text, a: Debater, b: Debater) -> text {
    var n = 1
    let ds = [a, b]
    if topic == "x" {
        n = 2
        post(topic)
    } else {
        return helper(ds[0], b)
    }
    return "{n}"
}
"""
    )
    branch = next(x for x in statements(checked) if isinstance(x, s.If))
    then = checked.bodies[branch.then]
    assert (names(then.assigns), names(then.reads), then.asks) == (["n"], ["topic"], ())
    assert then.calls_effects
    assert not then.returns
    assert branch.otherwise is not None
    otherwise = checked.bodies[branch.otherwise]
    assert names(otherwise.reads) == ["ds", "b"]
    assert names(otherwise.asks) == ["a", "b"]  # an element of the list may be either
    assert otherwise.returns
    assert names(checked.workflows["helper"].asked_parameters) == ["who"]
    assert checked.workflows["main"].calls_effects


def test_agents_made_in_a_body_are_its_own(check: Check) -> None:
    checked = check(
        workflow(
            """let panel = map x in xs { Debater(x) }
    let answers = map d in panel {
        let twin = Debater(d.name)
        d.ask(twin.ask("x", max = 4), max = 4)
    }
    return join(answers, "")"""
        )
    )
    body = next(x for x in checked.variables if isinstance(x, s.Map) and x.variable.name == "d")
    assert isinstance(body, s.Map)
    assert names(checked.bodies[body.body].asks) == ["d"]
    assert names(checked.bodies[checked.workflows["main"].decl.body].asks) == []


def test_a_var_takes_its_type_from_what_it_is_given(check: Check) -> None:
    checked = check(
        workflow(
            """var notes = []
    var last = none
    for x in xs {
        let seen = len(notes)
        notes = notes + ["{seen} {x}"]
        last = x
    }
    if last == none { return "nothing" }
    return join(notes, " ")"""
        )
    )
    assert value_type(checked, "notes") == ListType(TEXT)
    assert value_type(checked, "last") == OptionalType(TEXT)


def test_integers_carry_their_bounds(check: Check) -> None:
    checked = check(
        "const LIMIT = 4\n"
        + workflow(
            """let twice = n * 2 - 1
    let last = len(["a", "b"]) - 1
    let rest = n % LIMIT
    repeat twice { look("x") }
    return "{last} {rest}\"""",
            "n: int(1..LIMIT)",
        )
    )
    assert value_type(checked, "twice") == IntType(1, 7)
    assert value_type(checked, "last") == IntType(1, 1)
    assert value_type(checked, "rest") == IntType(0, 3)
    assert [info.bound for info in checked.loops.values()] == [7]


def test_comparing_with_none_takes_the_optional_away(check: Check) -> None:
    checked = check(
        "type V = { why: text?, n: int? }\n"
        + workflow(
            """let v = Judge.ask("x", as = V, max = 32)
    let why = v.why
    let n = v.n
    if why == none { return "no reason" }
    assert n != none and n > 3 else "too few"
    return why + "{n + 1}\"""",
            "",
        )
    )
    narrowed = [
        checked.types[node]
        for node, binding in checked.names.items()
        if isinstance(binding, Local) and binding.name in ("why", "n")
    ]
    assert narrowed[-2:] == [TEXT, INT]


def test_constant_texts_fit_unions_and_limits(check: Check) -> None:
    checked = check(
        """type Verdict = { winner: "for" | "against", why: text(max = 4), tags: ["a" | "b"] }
const FOR = "for"
workflow main() -> Verdict {
    return { winner: FOR, why: "yes", tags: ["a"] }
}
"""
    )
    returned = statements(checked)[0]
    assert isinstance(returned, s.Return)
    assert isinstance(returned.value, s.RecordExpr)
    assert checked.types[returned.value.fields[0].value] == EnumType(("for",))


def test_a_secret_stays_secret_through_texts(check: Check) -> None:
    call = 'tool send(key: secret text) -> text {{ command = ["s", "{{key}}"] }}\n'.format()
    check(call + workflow('return send("Bearer {key}")', "key: secret text"))
    with pytest.raises(CompileErrors) as caught:
        check(workflow('return look("Bearer {key}")', "key: secret text"))
    assert "must be text, not secret text" in str(caught.value)


def test_imports_share_one_file_and_keep_names_apart(tmp_path: Path) -> None:
    (tmp_path / "words.loom").write_text("workflow main(x: text) -> text {\n    return x\n}\n")
    (tmp_path / "mid.loom").write_text(
        'import "words.loom" as w\nworkflow two(x: text) -> text {\n    return w.main(x)\n}\n'
    )
    source = (
        'import "mid.loom" as m\nimport "words.loom" as w\n'
        "workflow main(x: text) -> text {\n    return m.two(w.main(x))\n}\n"
    )
    checked = check_file(tmp_path / "main.loom", source)
    assert [module.prefix for module in checked.modules] == ["", "words", "mid"]
    assert sorted(checked.workflows) == ["main", "mid.two", "words.main"]


def test_the_impl_is_imported_beside_the_script_and_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "near.py").write_text("def find(query, limit=3): ...\n")
    (tmp_path / "flows").mkdir()
    path = tmp_path / "flows" / "main.loom"
    before, modules = list(sys.path), set(sys.modules)
    check_file(path, 'tool t(query: text) -> text { impl = "tools.near:find" }\n')
    with pytest.raises(CompileErrors) as caught:
        check_file(path, 'tool t(word: text) -> text { impl = "tools.near:find" }\n')
    assert "has no parameter `word`" in str(caught.value)
    assert sys.path == before
    assert not {name for name in set(sys.modules) - modules if name.startswith("tools")}


def test_a_module_that_fails_to_import_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "bad_tools.py").write_text("import sys\nsys.exit(3)\n")
    checked = check_file(
        tmp_path / "main.loom", 'tool t(query: text) -> text { impl = "bad_tools:f" }\n'
    )
    assert [warning.message for warning in checked.warnings] == [
        "`bad_tools` cannot be imported here (SystemExit: 3)"
    ]


def test_forms_that_are_not_lowered_yet_are_checked(check: Check) -> None:
    check(
        workflow(
            """let d = Debater("Ann")
    match d.side {
        "for" => { look("a") }
        _ => { look("b") }
    }
    try { post(look("x")) } else e { fail e }
    let fast = race { Judge().ask("x", max = 3), look("y") }
    let some = first 1 of { look("x"), look("y") }
    let g = gather m in [d] until len(others) > 0 and round > 1 max 5 { m.ask("x", max = 3) }
    return fast + join(some + g, "")"""
        )
        + 'test "t" {\n    reply "x" to Judge\n    assert main(["a"]) == "x"\n}\n'
    )


def test_every_ask_of_a_long_program_is_there(check: Check) -> None:
    asks = [f'    let r{i} = d.ask("say {{topic}}", max = 8)' for i in range(500)]
    body = "\n".join(['    let d = Debater("Ann")', *asks, '    return "x"'])
    checked = check(workflow(body, "topic: text"))
    assert len(checked.asks) == 500
    assert len(checked.warnings) == 500


def test_the_program_of_the_language_description_is_one(tmp_path: Path) -> None:
    source = (Path(__file__).parent / "language.loom").read_text(encoding="utf-8")
    checked = check_file(tmp_path / "language.loom", source)  # away from its tools
    assert str(checked.workflows["debate"].result) == (
        '{winner: "for" | "against" | "tie", why: text(max = 40)}'
    )
    assert [(x.reuse, x.importance) for x in map(settings_of, checked.agents.values())] == [
        ("linked", 5),
        ("exact", 9),
    ]
    assert checked.tools["search"].settings.stages_ns == (
        ("query", 500_000_000),
        ("execute", 1_000_000_000),
    )


def settings_of(agent: AgentSymbol) -> AgentSettings:
    assert agent.settings is not None
    return agent.settings
