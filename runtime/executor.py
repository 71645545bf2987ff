"""Runs a workflow as data flow: a step starts as soon as its inputs are there.

It knows nothing of IR, of engines, or of how inputs were written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tokenloom.runtime.asker import Answerer, Asker, Where
from tokenloom.runtime.asks import AskRecord
from tokenloom.runtime.executor_control import CONTROL
from tokenloom.runtime.executor_core import Run
from tokenloom.runtime.executor_steps import STEPS
from tokenloom.runtime.listener import Listener
from tokenloom.runtime.pending import Frame, wait_inside
from tokenloom.runtime.redaction import Redactor
from tokenloom.runtime.steps import Block, Program
from tokenloom.runtime.tools import ToolRunner
from tokenloom.runtime.values import Value


@dataclass(frozen=True)
class Outcome:
    """The value of a workflow, and its asks in program order."""

    value: Value
    asks: tuple[AskRecord, ...]


async def execute(
    program: Program,
    workflow: str,
    inputs: Sequence[Value],
    answerer: Answerer,
    tools: ToolRunner,
    *,
    redactor: Redactor | None = None,
    seed: int = 0,
    listener: Listener | None = None,
) -> Outcome:
    """Run a workflow; `inputs` are in the order of its parameters.

    The end waits for the value, and for all effects, checks and asks that the program reached;
    other tool calls that nothing needed are cancelled, and whether they failed does not count. The
    first failure cancels everything.
    Raises RunError; when it returns or raises, no task of it is left.
    """
    asker = Asker(program, answerer, redactor or Redactor(), seed, listener or Listener())
    run = Run(program, asker, tools, {**STEPS, **CONTROL})
    main = asyncio.create_task(_main(run, program.workflows[workflow].body, inputs))
    try:
        await asyncio.wait({main, run.failure}, return_when=asyncio.FIRST_COMPLETED)
        value = (run.failure if run.failure.done() else main).result()
    finally:
        main.cancel()
        await asyncio.wait({main})
        await run.cancel()
        if not main.cancelled():
            main.exception()  # its failure is that of a task, or was raised above
    return Outcome(value, tuple(sorted(asker.records, key=lambda record: record.path)))


async def _main(run: Run, body: Block, inputs: Sequence[Value]) -> Value:
    results = run.start(body, Frame(None, body.arguments, inputs), Where())
    value = await wait_inside(results[0]) if results else None
    await run.wait_for_required()
    return value
