"""A long value that several linked agents read is computed once, behind the template's start."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tokenloom import driver
from tokenloom.compiler.options import CompileOptions
from tokenloom.models.registry import Model
from tokenloom.runtime.executor import Outcome
from tokenloom.runtime.program import decode
from tokenloom.runtime.reference import interpret
from tokenloom.runtime.session import RunOptions, RunResult, run_program, walk
from tokenloom.runtime.steps import LinkStep, Program, SliceStep
from tokenloom.runtime.tools import ToolRunner

SCRIPT = '''
model m = "tiny"
tool fetch(name: text) -> text {
    impl = "sources:fetch"
}
agent Reader(name: text) {
    model  = m
    reuse  = REUSE
    temperature = 0.9
    system = """You are {name}, a reader."""
}
agent Clerk {
    model = m
}
workflow read(names: [text] = ["Ann", "Bartholomew"]) -> text {
    let page = fetch("tea")
    let notes = map name in names {
        let reader = Reader(name)
        reader.ask("""Read this: {page}
What is it about, {name}?""", max = 6)
    }
    let late = Reader("Zoe")
    let more = late.ask("""{page} {notes}""", max = 6)
    let twice = late.ask("""Once more: {page} So?""", max = 6)
    return Clerk.ask("""{page} {notes} {more} {twice}""", max = 4)
}
'''
OPTIONS: list[dict[str, Any]] = [
    {},
    {"max_batch": 1, "prefix_reuse": False, "chunk_tokens": 31},
]
TEXT = "tea is a drink that is made of leaves and hot water. " * 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = f"def fetch(name): return {TEXT!r}\n"
    (tmp_path / "sources.py").write_text(source, encoding="utf-8")
    return tmp_path


def program(folder: Path, reuse: str) -> Program:
    script = folder / "read.loom"
    script.write_text(SCRIPT.replace("REUSE", reuse), encoding="utf-8")
    return decode(driver.compile(script, CompileOptions(base_dir=folder, mode="exact")).module)


def tokens(outcome: RunResult | Outcome) -> list[Any]:
    return [(a.agent, a.prompt_ids, a.output_ids) for a in outcome.asks] + [outcome.value]


def meaning(read: Program, model: Model) -> list[Any]:
    async def work() -> Outcome:
        tools = ToolRunner(read.tools)
        try:
            names = ["Ann", "Bartholomew"]
            return await interpret(read, "read", [names], {"m": model}, tools, seed=4)
        finally:
            tools.close()

    return tokens(asyncio.run(work()))


def test_readers_link_one_run_of_a_document(folder: Path, tiny: Model) -> None:
    read = program(folder, "linked")
    steps = list(walk(read.workflows["read"].body))
    assert sum(isinstance(step, SliceStep) for step in steps) == 1
    assert sum(isinstance(step, LinkStep) for step in steps) == 3
    expected = meaning(read, tiny)
    for options in OPTIONS:
        result = run_program(read, {}, RunOptions(seed=4, **options))
        assert tokens(result) == expected
        linked = [ask.num_reused_linked for ask in result.asks]
        assert sorted(linked) == [0, 0, *[len(TEXT)] * 3]  # the first reader, and the clerk
    assert expected != meaning(program(folder, "exact"), tiny)


def test_exact_readers_compute_it_each(folder: Path) -> None:
    read = program(folder, "exact")
    assert not any(isinstance(s, LinkStep | SliceStep) for s in walk(read.workflows["read"].body))
    result = run_program(read, {}, RunOptions(seed=4))
    assert result.stats["reused_linked_tokens"] == 0
