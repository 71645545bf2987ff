"""A program to start from, the checker on a text, and ways to build and run one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from xdsl.dialects.builtin import ModuleOp

from tokenloom.compiler.context import CompileContext
from tokenloom.compiler.frontend.build import build
from tokenloom.compiler.frontend.check import check_file
from tokenloom.compiler.frontend.checked import Checked
from tokenloom.compiler.transforms.inline_workflows import InlineWorkflows
from tokenloom.compiler.transforms.segment_prompts import SegmentPrompts
from tokenloom.ir.printing import module_text
from tokenloom.ir.verify import verify_locations, verify_module
from tokenloom.models.registry import Model
from tokenloom.runtime.executor import Outcome
from tokenloom.runtime.inputs import parse_inputs
from tokenloom.runtime.program import decode, parse
from tokenloom.runtime.reference import interpret
from tokenloom.runtime.tools import ToolRunner

PRELUDE = """model smol = "tiny"

agent Judge { model = smol }

agent Debater(name: text, side: "for" | "against" = "for") {
    model  = smol
    system = "You are {name} and argue {side}."
}

tool look(query: text) -> text { command = ["rg", "{query}"] }

tool post(what: text) -> text {
    command = ["post", "{what}"]
    effect
}
"""


@pytest.fixture
def check(tmp_path: Path) -> Callable[[str], Checked]:
    """Check declarations that stand after a prelude."""
    return lambda source: check_file(tmp_path / "main.loom", PRELUDE + source)


HEADER = """\
model m = "tiny"
agent Solo { model = m }
agent Named(name: text, age: int = 3) {
    model = m
    system = "You are {name}."
}
"""
Build = Callable[..., ModuleOp]
Run = Callable[..., Outcome]


@pytest.fixture
def built(tmp_path: Path) -> Build:
    """Return a function that builds the source of declarations."""

    def make(source: str) -> ModuleOp:
        path = tmp_path / "main.loom"
        path.write_text(HEADER + source, encoding="utf-8")
        module = build(check_file(path))
        verify_module(module)
        verify_locations(module)
        return module

    return make


@pytest.fixture
def run(built: Build, tiny: Model, tmp_path: Path) -> Run:
    """Return a function that runs the body of a workflow with the reference interpreter."""

    def work(body: str, result: str = "int", declarations: str = "", **inputs: Any) -> Outcome:
        kinds = {int: "int", str: "text", list: "[text]"}
        params = ", ".join(f"{name}: {kinds[type(value)]}" for name, value in inputs.items())
        main = f"workflow main({params}) -> {result} {{\n{body}\n}}\n"
        module = built(declarations + main)
        context = CompileContext(base_dir=tmp_path)
        for one in (InlineWorkflows(), SegmentPrompts()):
            one.apply(context, module)
            verify_module(module)
        program = decode(parse(module_text(module, locations=True)))

        async def interpreted() -> Outcome:
            tools = ToolRunner(program.tools)
            models = dict.fromkeys(program.models, tiny)
            values = parse_inputs(program.workflows["main"].inputs, inputs)
            try:
                return await interpret(program, "main", values, models, tools)
            finally:
                tools.close()

        return asyncio.run(interpreted())

    return work
