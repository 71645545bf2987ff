"""One run from start to end: opens models, devices and engines, executes, closes everything.

It knows nothing of scripts and of how results are shown.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenloom.backends.device import Device
from tokenloom.backends.registry import open_device
from tokenloom.kernel_spec import KernelSpec, Mode
from tokenloom.models.registry import Model, resolve
from tokenloom.runtime.asks import AskRecord, AskStart
from tokenloom.runtime.engine import Engine, EngineOptions, StepReport
from tokenloom.runtime.engine_client import EngineAnswerer
from tokenloom.runtime.errors import BundleError, InputError, RunError
from tokenloom.runtime.executable import Launch, ModelExecutable
from tokenloom.runtime.executor import Outcome, execute
from tokenloom.runtime.inputs import parse_inputs
from tokenloom.runtime.interrupts import interrupts_kept
from tokenloom.runtime.listener import Listener
from tokenloom.runtime.redaction import Redactor
from tokenloom.runtime.steps import (
    Block,
    CallStep,
    ForStep,
    GatherStep,
    IfStep,
    MapStep,
    Program,
    RootStep,
    Step,
    WhileStep,
    Workflow,
)
from tokenloom.runtime.tools import ToolCall, ToolRunner
from tokenloom.runtime.trace import Trace
from tokenloom.runtime.values import Value, plain


@dataclass(frozen=True)
class RunOptions:
    """How to run. None of it changes a token in mode `exact`, but for `seed`.

    `workflow` may be left out where there is one. `base_dir` is where paths of models start,
    `input_dir` those of `@file` inputs. Devices and numeric mode are the program's own.
    """

    workflow: str | None = None
    seed: int = 0
    max_batch: int = 16
    chunk_tokens: int = 256
    num_pages: int = 2048
    policy: str = "fcfs"
    prefix_reuse: bool = True
    base_dir: Path = Path()
    input_dir: Path = Path()

    def engine_options(self, on_step: Callable[[StepReport], None]) -> EngineOptions:
        """Return what the engine needs of it."""
        return EngineOptions(
            self.max_batch,
            self.chunk_tokens,
            self.num_pages,
            self.policy,
            self.prefix_reuse,
            on_step,
        )


@dataclass(frozen=True)
class RunResult:
    """What a run gave: the workflow's value, its asks in program order, and figures."""

    value: Value
    asks: tuple[AskRecord, ...]
    stats: Mapping[str, float] = field(default_factory=dict[str, float])

    def to_json(self) -> dict[str, Any]:
        """Return the object that `run --json` prints."""
        return {
            "result": plain(self.value),
            "asks": [ask.to_json() for ask in self.asks],
            "stats": dict(self.stats),
        }


def choose_workflow(program: Program, name: str | None) -> Workflow:
    """Return the workflow of that name, or the only one. Raises InputError."""
    if not program.workflows:
        raise InputError("the program has no workflow to run")
    names = ", ".join(program.workflows)
    if name is None and len(program.workflows) == 1:
        return next(iter(program.workflows.values()))
    if name is None:
        raise InputError(f"which workflow? There are {names}: give one with --workflow")
    if name not in program.workflows:
        raise InputError(f"there is no workflow '{name}'; there are {names}")
    return program.workflows[name]


def run_program(
    program: Program,
    inputs: Mapping[str, Any],
    options: RunOptions | None = None,
    listener: Listener | None = None,
    trace: Trace | None = None,
) -> RunResult:
    """Run a workflow of a program decoded from `exec` IR, from a thread without an event loop.

    Whatever happens, no thread, process or device memory of it is left. Raises InputError,
    ModelError, BundleError, DeviceError, RunError, and KeyboardInterrupt on Ctrl-C.
    """
    options = options or RunOptions()
    workflow = choose_workflow(program, options.workflow)
    values = parse_inputs(workflow.inputs, inputs, options.input_dir)
    redactor = Redactor()
    for spec, value in zip(workflow.inputs, values, strict=True):
        redactor.learn(value, spec["type"])
    trace = trace or Trace()
    trace.redactor = redactor
    session = _Session(program, options, redactor, _Both(listener or Listener(), trace), trace)
    try:
        return session.run(workflow, values)
    except RunError as error:
        error.message = redactor.scrub(error.message)
        raise


class _Both(Listener):
    """The caller's listener and the trace."""

    def __init__(self, *listeners: Listener):
        self._listeners = listeners

    def stage(self, text: str) -> None:
        for listener in self._listeners:
            listener.stage(text)

    def ask_started(self, ask: AskStart) -> None:
        for listener in self._listeners:
            listener.ask_started(ask)

    def ask_text(self, ask: AskStart, text: str) -> None:
        for listener in self._listeners:
            listener.ask_text(ask, text)

    def ask_done(self, ask: AskStart, record: AskRecord) -> None:
        for listener in self._listeners:
            listener.ask_done(ask, record)

    def tool_started(self, call: ToolCall) -> None:
        for listener in self._listeners:
            listener.tool_started(call)

    def tool_finished(self, call: ToolCall) -> None:
        for listener in self._listeners:
            listener.tool_finished(call)


@dataclass
class _Session:
    program: Program
    options: RunOptions
    redactor: Redactor
    listener: Listener
    trace: Trace
    devices: list[Device] = field(default_factory=list[Device])
    pairs: list[Counter[str]] = field(default_factory=list[Counter[str]])

    def run(self, workflow: Workflow, values: list[Value]) -> RunResult:
        start_ns = time.perf_counter_ns()
        with ExitStack() as stack:
            models: dict[str, Model] = {}
            engines: dict[str, Engine] = {}
            names = {step.model for step in walk(workflow.body) if isinstance(step, RootStep)}
            with interrupts_kept():
                tools = self._tools(workflow, stack)  # before the models: these take longer
                for name in sorted(names):
                    models[name] = self._model(name)
                    engines[name] = self._engine(name, models[name], stack)
            ready_ns = time.perf_counter_ns()
            outcome = asyncio.run(self._execute(workflow, values, tools, models, engines))
            end_ns = time.perf_counter_ns()
            figures = self._device_figures()
        stats = self.trace.metrics() | figures
        stats["load_ms"] = (ready_ns - start_ns) / 1e6
        stats["run_ms"] = (end_ns - ready_ns) / 1e6
        stats["output_tokens_per_s"] = 1e9 * stats["output_tokens"] / max(1, end_ns - ready_ns)
        return RunResult(outcome.value, outcome.asks, stats)

    async def _execute(
        self,
        workflow: Workflow,
        values: list[Value],
        tools: ToolRunner,
        models: Mapping[str, Model],
        engines: Mapping[str, Engine],
    ) -> Outcome:
        return await execute(
            self.program,
            workflow.name,
            values,
            EngineAnswerer(models, engines),
            tools,
            redactor=self.redactor,
            seed=self.options.seed,
            listener=self.listener,
        )

    def _tools(self, workflow: Workflow, stack: ExitStack) -> ToolRunner:
        listener = self.listener
        tools = ToolRunner(self.program.tools, listener.tool_started, listener.tool_finished)
        stack.callback(tools.close)
        called = {step.tool for step in walk(workflow.body) if isinstance(step, CallStep)}
        tools.check(sorted(called))
        return tools

    def _model(self, name: str) -> Model:
        model = resolve(self.program.models[name], self.options.base_dir)
        digest = self.program.digests.get(name)
        if digest and digest != model.digest:
            raise BundleError(
                f"the weights of model '{self.program.models[name]}' are not those that the "
                "program was compiled for: compile it again"
            )
        return model

    def _device_figures(self) -> dict[str, float]:
        """Return what the modelled devices would have taken, and where attention ran."""
        figures: Counter[str] = Counter()
        for device in self.devices:
            figures.update({f"{device.name}_{k}": v for k, v in device.figures().items()})
        pairs = sum(self.pairs, Counter[str]())
        total = pairs.total()
        shares = {f"{name}_attention_share": n / total for name, n in pairs.items() if total}
        return dict(figures) | shares

    def _on_build(self, spec: KernelSpec) -> None:
        self.listener.stage(f"Building kernel {spec} (once)")

    def _engine(self, name: str, model: Model, stack: ExitStack) -> Engine:
        """Open devices and engine of a model; the stack closes the engine first."""
        executable = self.program.executables.get(name)
        if executable is None:
            raise BundleError(f"the program has no executable of model '{name}'")
        mode = _mode(executable)
        devices: dict[str, Device] = {}
        for device_name in executable.devices:
            devices[device_name] = device = open_device(device_name, mode, self._on_build)
            stack.callback(device.close)
        self.devices += devices.values()
        prefill, decode = _attention_devices(executable)
        pairs = Counter[str]()  # one an engine, as each has a thread of its own
        self.pairs.append(pairs)

        def on_step(report: StepReport) -> None:
            self.trace.engine_step(name, report)
            pairs[prefill] += report.prefill_pairs
            pairs[decode] += report.decode_pairs

        self.listener.stage(f"Loading model {model.name}")
        engine = Engine(model, executable, devices, self.options.engine_options(on_step))
        stack.callback(engine.close)
        return engine


def _mode(executable: ModelExecutable) -> Mode:
    launches = [step for step in executable.steps if isinstance(step, Launch)]
    return launches[0].kernel.mode if launches else "exact"


def _attention_devices(executable: ModelExecutable) -> tuple[str, str]:
    """Return the devices that attend for prefill rows and for decode rows."""
    launches = [step for step in executable.steps if isinstance(step, Launch)]
    where = {launch.kernel.op: launch.device for launch in launches}
    return where["attention_prefill"], where["attention_decode"]


def walk(block: Block) -> Iterator[Step]:
    """Go through all steps of a block, those of inner blocks included."""
    for step in block.steps:
        yield step
        for inner in _inner(step):
            yield from walk(inner)


def _inner(step: Step) -> tuple[Block, ...]:
    match step:
        case IfStep():
            return step.then, step.otherwise
        case WhileStep():
            return step.before, step.after
        case GatherStep():
            return (step.body,) if step.shared is None else (step.shared, step.body)
        case ForStep() | MapStep():
            return (step.body,)
        case _:
            return ()
