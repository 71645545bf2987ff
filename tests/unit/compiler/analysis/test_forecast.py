from __future__ import annotations

from collections.abc import Callable

import pytest
from xdsl.dialects.builtin import ModuleOp

from tokenloom.compiler.options import CompileOptions
from tokenloom.compiler.pipeline import lower

Build = Callable[[str], ModuleOp]

HEAD = """
model m = "tiny"
agent A { model = m, system = \"\"\"You are short.\"\"\" }
workflow w(n: int(1..5) = 3, xs: [text] = ["a", "b"]) -> text {
    let a = A()
"""


def asks(build: Build, body: str) -> list[tuple[int, int, int]]:
    """Return (count, reused tokens, decode tokens) of each ask of a body."""
    plan = lower(build(HEAD + body + "\n}\n"), CompileOptions(), to="kv").plan
    return [(ask.count, ask.reused_tokens, ask.decode_tokens) for ask in plan.asks]


def test_a_loop_runs_as_often_as_its_default_says(build_text: Build) -> None:
    body = """
    var last = ""
    repeat n { last = a.ask(\"\"\"Again\"\"\", max = 4) }
    return last"""
    ((count, reused, decoded),) = asks(build_text, body)
    assert (count, decoded) == (3, 12)
    assert reused > 0, "the second turn goes on from the first"


def test_until_runs_to_its_bound(build_text: Build) -> None:
    body = """
    var last = ""
    repeat max 4 { last = a.ask(\"\"\"Again\"\"\", max = 4) until last == "done" }
    return last"""
    assert asks(build_text, body)[0][0] == 4


def test_both_branches_of_an_unknown_condition_count(build_text: Build) -> None:
    body = """
    let word = a.ask(\"\"\"Which?\"\"\", max = 4)
    if word == "x" { return a.ask(\"\"\"Yes\"\"\", max = 4) }
    return a.ask(\"\"\"No\"\"\", max = 4)"""
    assert [count for count, _, _ in asks(build_text, body)] == [1, 1, 1]


def test_a_known_condition_takes_one_branch(build_text: Build) -> None:
    body = """
    if n > 2 { return a.ask(\"\"\"Yes\"\"\", max = 4) }
    return a.ask(\"\"\"No\"\"\", max = 4)"""
    assert [count for count, _, _ in asks(build_text, body)] == [1, 0]


@pytest.mark.parametrize(("xs", "count"), [("xs", 2), ('["a", "b", "c"]', 3)])
def test_a_map_takes_each_item(build_text: Build, xs: str, count: int) -> None:
    body = f"""
    let ys = map x in {xs} {{ A().ask(\"\"\"Say {{x}}\"\"\", max = 4) }}
    return a.ask(\"\"\"{{ys}}\"\"\", max = 4)"""
    assert asks(build_text, body)[0][0] == count


def test_a_workflow_larger_than_can_be_followed_says_so(
    build_text: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenloom.compiler.analysis.forecast_walk.MAX_EVENTS", 2)
    body = """
    var last = ""
    repeat 5 { last = a.ask(\"\"\"Again\"\"\", max = 4) }
    return last"""
    plan = lower(build_text(HEAD + body + "\n}\n"), CompileOptions(), to="kv").plan
    assert plan.asks[0].count == 2
    assert any("only the first 2" in line for line in plan.assumptions)
