"""The state of one run of a workflow: its tasks, and how steps are started.

Starting a step never waits: what is not there yet is a future, and a step that needs one gets a
task. It knows nothing of what single steps do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from tokenloom.runtime.asker import Asker, Where
from tokenloom.runtime.errors import RunError
from tokenloom.runtime.pending import Frame, Pending, fail
from tokenloom.runtime.steps import Block, Program
from tokenloom.runtime.tools import ToolRunner
from tokenloom.runtime.values import Value

Handler = Callable[["Run", Any, Frame, Where], None]


class Run:
    """One run. Tasks are *required*, if the run may not end before them, or not.

    A task that is not required fails the run only through what needs its value, so that the end
    does not depend on which of them came first.
    """

    def __init__(
        self,
        program: Program,
        asker: Asker,
        tools: ToolRunner,
        handlers: Mapping[type, Handler],
    ):
        self.program = program
        self.asker = asker
        self.tools = tools
        self.failure: Pending = asyncio.get_running_loop().create_future()
        self._handlers = handlers
        self._tasks: set[asyncio.Task[Any]] = set()
        self._num_required = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self, block: Block, frame: Frame, where: Where) -> list[Value]:
        """Start all steps of a block; return its results, which may be futures."""
        for index, step in enumerate(block.steps):
            self._handlers[type(step)](self, step, frame, where.step(index))
        return frame.many(block.results)

    def spawn(
        self, work: Coroutine[Any, Any, Any], *, is_required: bool = True
    ) -> asyncio.Task[Any]:
        """Run a task; if it is required and fails, so does the run."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        if is_required:
            self._num_required += 1
            self._idle.clear()
        task.add_done_callback(lambda done: self._ended(done, is_required=is_required))
        return task

    def future(self) -> Pending:
        """Return a value that is not there yet."""
        return asyncio.get_running_loop().create_future()

    async def wait_for_required(self) -> None:
        """Wait until no required task is left, those started meanwhile included."""
        await self._idle.wait()

    async def cancel(self) -> None:
        """Stop all tasks and wait until they have ended."""
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _ended(self, task: asyncio.Task[Any], *, is_required: bool) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            error = task.exception()
            if error is not None and (is_required or not isinstance(error, RunError)):
                fail(self.failure, error)
        if is_required:
            self._num_required -= 1
            if self._num_required == 0:
                self._idle.set()


def at(error: RunError, place: str) -> RunError:
    """Return the error with a place, if it has none yet."""
    if not error.place:
        error.place = place
    return error
