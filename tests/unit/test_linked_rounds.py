"""Scripts with `reuse = linked` from source to tokens, on the tiny model."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tokenloom import driver
from tokenloom.compiler.options import CompileOptions
from tokenloom.ir.verify import Phase
from tokenloom.models.registry import Model
from tokenloom.runtime.errors import RunError
from tokenloom.runtime.executor import Outcome
from tokenloom.runtime.program import decode
from tokenloom.runtime.reference import interpret
from tokenloom.runtime.session import RunOptions, RunResult, run_program, walk
from tokenloom.runtime.steps import LinkStep, Program, SliceStep
from tokenloom.runtime.tools import ToolRunner

SCRIPT = '''
model m = "tiny"
agent Member(name: text, habit: text) {
    model   = m
    reuse   = REUSE
    system  = """You are NAME, of the committee on tea."""
    history = HISTORY
    temperature = 0.8
}
agent Clerk {
    model  = m
    system = """You keep the minutes."""
}
workflow meet(rounds: int(1..4) = 3) -> text {
    let panel = [Member("Ann", "short"), Member("Bo", "rather long and winding"), Member("Cy", "")]
    let said = gather d in panel for rounds {
        d.ask("""PROMPT""", max = 12)
    }
    return Clerk.ask("""{said}""", max = 8)
}
'''
PROMPT = "{d.habit}: {others}\nYour turn, {d.name}."
SYSTEM = "You are {name}, of the committee on tea."


def program(
    folder: Path, *, reuse: str = "linked", history: str = "keep", to: Phase = "exec", **more: str
) -> Program:
    text = SCRIPT.replace("REUSE", reuse).replace("HISTORY", history)
    text = text.replace("PROMPT", more.get("prompt", PROMPT))
    text = text.replace("You are NAME, of the committee on tea.", more.get("system", SYSTEM))
    script = folder / "meet.loom"
    script.write_text(text, encoding="utf-8")
    return decode(
        driver.compile(script, CompileOptions(base_dir=folder, mode="exact"), to=to).module
    )


def tokens(outcome: RunResult | Outcome) -> list[Any]:
    return [(a.agent, a.prompt_ids, a.output_ids) for a in outcome.asks] + [outcome.value]


def meaning(linked: Program, model: Model, rounds: int = 3) -> list[Any]:
    async def work() -> Outcome:
        tools = ToolRunner(linked.tools)
        try:
            return await interpret(linked, "meet", [rounds], {"m": model}, tools, seed=4)
        finally:
            tools.close()

    return tokens(asyncio.run(work()))


def run(linked: Program, rounds: int = 3, **options: Any) -> RunResult:
    return run_program(linked, {"rounds": rounds}, RunOptions(seed=4, **options))


def num_links(one: Program) -> int:
    return sum(isinstance(step, LinkStep) for step in walk(one.workflows["meet"].body))


OPTIONS: list[dict[str, Any]] = [
    {},
    {"max_batch": 1, "chunk_tokens": 9, "prefix_reuse": False},
    {"max_batch": 2, "chunk_tokens": 40, "policy": "lru-prefix"},
    {"num_pages": 40},
]


@pytest.mark.parametrize("history", ["keep", "last(1)", "none"])
def test_linked_rounds_mean_what_the_reference_says(
    tmp_path: Path, tiny: Model, history: str
) -> None:
    linked = program(tmp_path, history=history)
    assert num_links(linked) == 1
    expected = meaning(linked, tiny)
    for options in OPTIONS:
        assert tokens(run(linked, **options)) == expected, options


def test_a_linked_gather_says_something_else_than_a_dense_one(tmp_path: Path, tiny: Model) -> None:
    """Or the tests here would pass without a link."""
    linked = meaning(program(tmp_path), tiny)
    dense = meaning(program(tmp_path, reuse="exact"), tiny)
    assert linked[:3] == dense[:3]  # nobody has said anything yet
    assert linked[3] == dense[3]  # the master
    assert linked != dense


def test_exact_agents_link_nothing(tmp_path: Path, tiny: Model) -> None:
    exact = program(tmp_path, reuse="exact")
    assert num_links(exact) == 0
    result = run(exact)
    assert result.stats["reused_linked_tokens"] == 0
    assert tokens(result) == meaning(program(tmp_path, reuse="exact", to="flow"), tiny)


def test_every_member_but_the_first_links_what_was_said(tmp_path: Path) -> None:
    result = run(program(tmp_path))
    linked = [ask.num_reused_linked for ask in result.asks]
    assert linked[:3] == [0, 0, 0]
    assert linked[3] == linked[6] == linked[9] == 0
    assert linked[4] == linked[5] > 12
    assert linked[7] == linked[8] > 12
    assert result.stats["reused_linked_tokens"] == sum(linked)


@pytest.mark.parametrize(
    ("prompt", "links"),
    [
        ("{others}\nYour turn, {d.name}.", 1),
        ("{others}", 1),
        ('{join(others, " and ")}. Your turn.', 1),
        ("Round {round}. {d.name}, {others} and {others}!", 1),
        ("{d.name} {d.habit}", 0),
        ("{len(others)} of them.", 0),
    ],
)
def test_any_row_that_all_members_read_is_a_run(
    tmp_path: Path, tiny: Model, prompt: str, links: int
) -> None:
    linked = program(tmp_path, prompt=prompt)
    assert num_links(linked) == links
    assert tokens(run(linked)) == meaning(linked, tiny)


def test_members_with_equal_heads_share_their_prefix_instead(tmp_path: Path) -> None:
    linked = program(tmp_path, prompt="{others}", system="You are alike.", history="none")
    assert num_links(linked) == 0


def test_an_exact_agent_behind_a_linked_run_is_refused(tmp_path: Path, tiny: Model) -> None:
    linked = program(tmp_path)
    member = linked.agents["Member"]
    agents = dict(linked.agents) | {"Member": replace(member, may_link=False)}
    with pytest.raises(RunError, match="fault of the compiler"):
        run(replace(linked, agents=agents))


def test_the_shared_region_is_there_once_a_gather(tmp_path: Path) -> None:
    linked = program(tmp_path)
    slices = [s for s in walk(linked.workflows["meet"].body) if isinstance(s, SliceStep)]
    assert len(slices) == 1
