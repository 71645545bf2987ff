"""Random programs on the tiny model: batching changes nothing, and the reference agrees.

What a program with linked runs means is read from `exec`; without them it means the same in `flow`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenloom import driver
from tokenloom.compiler.options import CompileOptions
from tokenloom.ir.verify import Phase
from tokenloom.models.registry import Model
from tokenloom.runtime.errors import RunError
from tokenloom.runtime.executor import Outcome
from tokenloom.runtime.inputs import parse_inputs
from tokenloom.runtime.program import decode
from tokenloom.runtime.reference import interpret
from tokenloom.runtime.session import RunOptions, RunResult, run_program, walk
from tokenloom.runtime.steps import LinkStep, Program
from tokenloom.runtime.tools import ToolRunner

INPUTS: dict[str, Any] = {"topic": "tea — 茶", "words": ["a", "bb"], "rounds": 2}
FAILED = "failed"
PHASES: tuple[Phase, Phase] = ("flow", "exec")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    (folder / "tools.py").write_text("def note(line): return line[::-1]\n", encoding="utf-8")
    return folder / "main.loom"


def tokens(result: RunResult | Outcome) -> list[tuple[Any, ...]]:
    asks = [(a.agent, a.place, a.prompt_ids, a.output_ids, a.text) for a in result.asks]
    return [*asks, (result.value,)]


def meaning(program: Program, model: Model) -> list[tuple[Any, ...]] | str:
    async def work() -> Outcome:
        tools = ToolRunner(program.tools)
        values = parse_inputs(program.workflows["main"].inputs, INPUTS)
        try:
            return await interpret(program, "main", values, {"m": model}, tools, seed=5)
        finally:
            tools.close()

    try:
        return tokens(asyncio.run(work()))
    except RunError:
        return FAILED


def run(program: Program, **options: Any) -> list[tuple[Any, ...]] | str:
    try:
        chosen = RunOptions(workflow="main", seed=5, **options)
        return tokens(run_program(program, INPUTS, chosen))
    except RunError:
        return FAILED


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_tokens_are_those_of_the_reference_whatever_is_batched(
    script: Path, tiny: Model, programs: st.SearchStrategy[str], data: st.DataObject
) -> None:
    script.write_text(data.draw(programs), encoding="utf-8")
    options = CompileOptions(base_dir=script.parent, mode="exact")
    flow, program = (decode(driver.compile(script, options, to=to).module) for to in PHASES)
    expected = meaning(program, tiny)
    body = program.workflows["main"].body
    if not any(isinstance(step, LinkStep) for step in walk(body)):
        assert meaning(flow, tiny) == expected
    assert run(program) == expected
    assert run(program, max_batch=1, chunk_tokens=9, prefix_reuse=False) == expected
