"""Which agent remembers what, in built programs that the reference interpreter runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from xdsl.dialects.builtin import ModuleOp

from tokenloom.compiler.diagnostics import CompileError
from tokenloom.models.registry import Model
from tokenloom.runtime.executor import Outcome

Build = Callable[..., ModuleOp]
Run = Callable[..., Outcome]


def prompts(outcome: Outcome, tiny: Model) -> list[str]:
    return [tiny.tokenizer.decode(record.prompt_ids) for record in outcome.asks]


def test_a_branch_that_is_not_taken_leaves_the_history_alone(run: Run, tiny: Model) -> None:
    body = """
    if n > 1 { Solo.ask("one", max = 1) }
    if n > 2 { Solo.ask("two", max = 1) }
    return Solo.ask("three", max = 1)
    """
    last = prompts(run(body, "text", n=2), tiny)[-1]
    assert "one" in last
    assert "two" not in last


def test_one_agent_by_several_names_has_one_history(run: Run, tiny: Model) -> None:
    body = """
    let a = Named("Ann")
    let team = [a, Named("Bo")]
    a.ask("first", max = 1)
    team[0].ask("second", max = 1)
    for t in team { t.ask("third", max = 1) }
    gather t in team for 2 { t.ask("round {round}", max = 1) }
    return a.ask("last", max = 1)
    """
    last = prompts(run(body, "text"), tiny)[-1]
    order = [
        last.index(word) for word in ("first", "second", "third", "round 1", "round 2", "last")
    ]
    assert order == sorted(order)
    assert "Bo" not in last


def test_agents_made_at_run_time_keep_their_histories(run: Run, tiny: Model) -> None:
    body = """
    let team = map w in words { Named(w) }
    for t in team { t.ask("hello {t.name}", max = 1) }
    team[1].ask("you alone", max = 1)
    var all = ""
    for t in team { all = all + t.ask("again {all}", max = 1) }
    gather t in team for 1 { t.ask("together", max = 1) }
    return team[1].ask("end", max = 1)
    """
    last = prompts(run(body, "text", words=["ann", "bo"]), tiny)[-1]
    order = [last.index(word) for word in ("hello bo", "you alone", "again", "together", "end")]
    assert order == sorted(order)
    assert "hello ann" not in last


def test_a_workflow_gives_back_the_histories_of_agents(run: Run, tiny: Model) -> None:
    helper = """
    workflow helper(one: Named, many: [Named], q: text) -> text {
        for t in many { t.ask("{q} many", max = 1) }
        let judged = Solo.ask("own instance", max = 1)
        return one.ask("{q} one", max = 1)
    }
    """
    body = """
    let a = Named("Ann")
    let b = Named("Bo", 4)
    helper(a, [b], "q1")
    helper(a, [b], "q2")
    b.ask("age {b.age}", max = 1)
    return a.ask("end", max = 1)
    """
    outcome = run(body, "text", helper)
    texts = prompts(outcome, tiny)
    ann, bo = texts[-1], texts[-2]
    assert [ann.count(q) for q in ("q1 one", "q2 one", "many")] == [1, 1, 0]
    assert [bo.count(q) for q in ("q1 many", "q2 many", "one", "age 4")] == [1, 1, 0, 1]
    own = [text for text in texts if "own" in text]
    assert [text.count("own instance") for text in own] == [1, 1]


def test_an_empty_system_prompt_is_a_turn_and_none_is_not(run: Run, tiny: Model) -> None:
    agent = 'agent Empty { model = m, system = "" }\n'
    agent += 'agent Blank(x: text) { model = m, system = "{x}" }\n'
    body = """
    Blank("").ask("x", max = 1)
    Empty.ask("x", max = 1)
    return Solo.ask("x", max = 1)
    """
    blank, empty, solo = (record.prompt_ids for record in run(body, "text", agent).asks)
    head = tiny.tokenizer.encode_markers("<|im_start|>system\n<|im_end|>\n")
    assert empty == blank == (*head, *solo)


def test_asks_in_conditions_are_turns_like_others(run: Run, tiny: Model) -> None:
    body = """
    if Solo.ask("c1", as = bool, max = 6) == Solo.ask("c2", as = bool, max = 6) or n > 1 {
        Solo.ask("b1", max = 1)
    }
    var i = 0
    repeat max 2 {
        i = i + 1
        until Solo.ask("u{i}", as = bool, max = 6) and i > n
    }
    return Solo.ask("end", max = 1)
    """
    last = prompts(run(body, "text", n=5), tiny)[-1]
    order = [last.index(word) for word in ("c1", "c2", "b1", "u1", "u2", "end")]
    assert order == sorted(order)


def test_gathers_nest(run: Run, tiny: Model) -> None:
    body = """
    let team = [Named("Ann"), Named("Bo")]
    let said = gather a in team for 2 {
        let inner = gather b in [Named("Cy"), Named(a.name)] for round {
            b.ask("inner {round} {others}", max = 1)
        }
        a.ask("outer {len(inner)} {len(others)}", max = 1)
    }
    return len(said)
    """
    outcome = run(body)
    assert outcome.value == 2
    texts = prompts(outcome, tiny)
    assert len(texts) == 2 * (2 + 1) + 2 * (4 + 1)
    assert sum("outer 2 0" in text and "outer 2 2" in text for text in texts) == 2


def test_names_of_an_imported_file(run: Run, tiny: Model, tmp_path: Path) -> None:
    (tmp_path / "lib.loom").write_text(
        """model lm = "tiny"
const GREETING = "Grüße"
agent Helper(name: text = GREETING) {
    model = lm
    system = "I am {name}."
}
agent Clerk { model = lm }
workflow help(x: text, style: text = GREETING) -> text {
    Clerk.ask("inside", max = 1)
    return Helper().ask("{x} {style}", max = 1)
}
""",
        encoding="utf-8",
    )
    body = """
    lib.help("one")
    lib.help("two", "kind")
    let h = lib.Helper("Ann")
    h.ask(lib.GREETING, max = 1)
    return lib.Clerk.ask("outside", max = 1)
    """
    outcome = run(body, "text", 'import "lib.loom" as lib\n')
    texts = prompts(outcome, tiny)
    assert ["one Grüße" in texts[1], "two kind" in texts[3]] == [True, True]
    assert "I am Grüße." in texts[1]
    assert "I am Ann." in texts[4]
    assert "inside" not in texts[5]
    assert [record.agent for record in outcome.asks][4:] == ["lib.Helper", "lib.Clerk"]


def test_one_agent_in_two_places_of_a_call_is_an_error(built: Build) -> None:
    with pytest.raises(CompileError, match="the same agent twice") as caught:
        built("""workflow both(a: Named, b: Named) -> text {
    a.ask("x", max = 1)
    return b.ask("y", max = 1)
}
workflow main() -> text {
    let n = Named("n")
    return both(n, n)
}""")
    assert "main.loom:13:12" in str(caught.value)


def test_an_empty_list_is_a_list_of_agents_where_one_is_wanted(run: Run, tiny: Model) -> None:
    helper = """
    workflow helper(all: [Named], some: [Named]) -> int {
        let said = gather a in all for 2 { a.ask("{others}", max = 1) }
        for a in some { a.ask("x", max = 1) }
        return len(said)
    }
    """
    body = """
    let nobody = []
    return helper([], nobody) + helper([Named("a")], [])
    """
    outcome = run(body, "int", helper)
    assert (outcome.value, len(outcome.asks)) == (1, 2)


def test_a_parameter_that_may_be_an_agent_says_where_it_is(built: Build) -> None:
    with pytest.raises(CompileError, match="nests agents is not supported yet") as caught:
        built("workflow main(a: Named?) -> int { return 1 }")
    assert "main.loom:7:15" in str(caught.value)
