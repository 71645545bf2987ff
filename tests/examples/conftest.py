# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# (threadpoolctl has no types)
"""Scripts compiled once, and engines that run many scripts, so that weights are loaded rarely."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from threadpoolctl import threadpool_limits

from tokenloom import driver
from tokenloom.backends.registry import open_device
from tokenloom.compiler.options import CompileOptions
from tokenloom.ir.verify import Phase
from tokenloom.models.registry import Model
from tokenloom.runtime.engine import Engine, EngineOptions
from tokenloom.runtime.engine_client import EngineAnswerer
from tokenloom.runtime.executor import Outcome, execute
from tokenloom.runtime.inputs import parse_inputs
from tokenloom.runtime.program import decode
from tokenloom.runtime.reference import interpret
from tokenloom.runtime.session import choose_workflow
from tokenloom.runtime.steps import Program
from tokenloom.runtime.tools import ToolRunner

Tokens = list[tuple[Any, ...]]


def compiled(script: Path, device: str, to: Phase = "exec") -> Program:
    name = "pim" if device == "pim" else "host"
    options = CompileOptions(base_dir=script.parent, device=name, mode="exact")
    return decode(driver.compile(script, options, to=to).module)


@dataclass(frozen=True)
class Run:
    """One run's outcome, and what two equal runs have in common."""

    program: Program
    outcome: Outcome

    @property
    def tokens(self) -> Tokens:
        return [
            (a.agent, a.place, a.prompt_ids, a.output_ids, a.text) for a in self.outcome.asks
        ] + [(self.outcome.value,)]


class Runner:
    """An engine of the default model that scripts are run on, one after the other."""

    def __init__(self, model: Model, device: str, options: EngineOptions, stack: ExitStack):
        self._model, self._device, self._options, self._stack = model, device, options, stack
        self._engine: Engine | None = None

    def __call__(self, script: Path, inputs: Mapping[str, Any] | None = None, seed: int = 0) -> Run:
        program = compiled(script, self._device)
        (name, executable), *others = program.executables.items()
        assert not others
        if self._engine is None:
            devices = {n: open_device(n, "exact") for n in executable.devices}
            for opened in devices.values():
                self._stack.callback(opened.close)
            self._engine = Engine(self._model, executable, devices, self._options)
            self._stack.callback(self._engine.close)
        answerer = EngineAnswerer({name: self._model}, {name: self._engine})
        workflow = choose_workflow(program, None)
        values = parse_inputs(workflow.inputs, inputs or {})
        tools = ToolRunner(program.tools)
        try:
            made = execute(program, workflow.name, values, answerer, tools, seed=seed)
            return Run(program, asyncio.run(made))
        finally:
            tools.close()


MakeRunner = Callable[..., Runner]


@pytest.fixture(scope="module")
def make_runner(smollm2: Model) -> Iterator[MakeRunner]:
    """Return a function that opens an engine on a device; all are closed at the end."""
    with ExitStack() as stack:

        def make(device: str = "host", **options: Any) -> Runner:
            return Runner(smollm2, device, EngineOptions(**options), stack)

        yield make


Meaning = Callable[..., Run]


@pytest.fixture(scope="module")
def meaning(smollm2: Model) -> Meaning:
    """Return a function that runs a script in the reference interpreter."""

    # One row at a time gains nothing from BLAS threads, which on busy cores wait for each other.
    @threadpool_limits.wrap(limits=1)
    def work(script: Path, inputs: Mapping[str, Any] | None = None, seed: int = 0) -> Run:
        program = compiled(script, "host", "flow")
        if any(agent.may_link for agent in program.agents.values()):
            program = compiled(script, "host")  # what is linked is decided later
        workflow = choose_workflow(program, None)
        values = parse_inputs(workflow.inputs, inputs or {})
        models = dict.fromkeys(program.models, smollm2)
        tools = ToolRunner(program.tools)
        try:
            made = interpret(program, workflow.name, values, models, tools, seed=seed)
            return Run(program, asyncio.run(made))
        finally:
            tools.close()

    return work
