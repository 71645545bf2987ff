"""Tools: calls outside of the program, with timeout, retries and a checked result.

It knows nothing of values that are not ready, of agents, or of who wants the result.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tokenloom.models.answers import AnswerError, AnswerType, describe, parse_answer
from tokenloom.runtime.errors import ToolError
from tokenloom.runtime.tool_command import CommandError, run_command
from tokenloom.runtime.tool_impl import Implementations, ImplError
from tokenloom.runtime.values import Value

_SHOWN_CHARACTERS = 200
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
_PARALLEL_CALLS = 64
"""More calls at once wait: each is a thread or a process."""


@dataclass(frozen=True)
class ToolSpec:
    """A declared tool: `impl` (`module:function`) or `command` (arguments with `{param}`).

    `directory` is the script's folder; `place` that of the declaration.
    """

    name: str
    params: tuple[str, ...]
    result: AnswerType
    directory: Path
    timeout_ns: int
    impl: str | None = None
    command: tuple[str, ...] | None = None
    retries: int = 0
    is_effect: bool = False
    place: str = ""


@dataclass(frozen=True)
class ToolCall:
    """One call as the trace and the forecaster see it. Times are `time.perf_counter_ns`.

    `error` is None while it runs and when it succeeded; `end_ns` is 0 while it runs.
    """

    id: int
    tool: str
    place: str
    start_ns: int
    end_ns: int = 0
    error: str | None = None


Observer = Callable[[ToolCall], None]


def _ignore(_: ToolCall) -> None:
    """Observe nothing."""


class ToolRunner:
    """Runs the tools of one run. `close` it, whatever happened.

    `on_start` and `on_finish` are called on the event loop around each call. `first_pause_s` is
    the pause before the first retry; it doubles from retry to retry.
    """

    def __init__(
        self,
        tools: Mapping[str, ToolSpec],
        on_start: Observer = _ignore,
        on_finish: Observer = _ignore,
        first_pause_s: float = _FIRST_PAUSE_S,
    ):
        self._tools = tools
        self._on_start = on_start
        self._on_finish = on_finish
        self._first_pause_s = first_pause_s
        self._num_calls = 0
        self._slots = asyncio.Semaphore(_PARALLEL_CALLS)
        self._implementations = Implementations()

    def check(self, names: Sequence[str]) -> None:
        """Import what the tools need. Raises ToolError at the place of the declaration."""
        for name in names:
            tool = self._tools[name]
            if tool.impl is not None:
                try:
                    self._implementations.find(tool.impl, tool.directory)
                except ImplError as error:
                    raise ToolError(f"tool '{name}': {error}", tool.place) from error

    async def call(self, name: str, arguments: Sequence[Value], place: str) -> Value:
        """Return the checked result. Raises ToolError at `place` when the last attempt failed."""
        async with self._slots:
            self._num_calls += 1
            call = ToolCall(self._num_calls, name, place, time.perf_counter_ns())
            self._on_start(call)
            error: str | None = "cancelled"
            try:
                value = await self._attempts(self._tools[name], arguments, place)
                error = None
            except ToolError as failure:
                error = failure.message
                raise
            finally:
                self._on_finish(replace(call, end_ns=time.perf_counter_ns(), error=error))
        return value

    async def _attempts(self, tool: ToolSpec, arguments: Sequence[Value], place: str) -> Value:
        num_allowed = 1 if tool.is_effect else 1 + tool.retries
        for num_made in range(1, num_allowed + 1):
            try:
                return await self._attempt(tool, arguments)
            except (ImplError, CommandError, AnswerError) as error:
                if num_made == num_allowed:
                    tries = f" (the last of {num_made} attempts)" if num_made > 1 else ""
                    raise ToolError(f"tool '{tool.name}' {error}{tries}", place) from error
            await asyncio.sleep(self._pause_s(num_made))
        raise AssertionError("a tool is tried at least once")

    def close(self) -> None:
        """Stop what is still running, without waiting for what hangs."""
        self._implementations.close()

    def _pause_s(self, num_attempts: int) -> float:
        return min(_LONGEST_PAUSE_S, self._first_pause_s * 2 ** (num_attempts - 1))

    async def _attempt(self, tool: ToolSpec, arguments: Sequence[Value]) -> Value:
        named = dict(zip(tool.params, arguments, strict=True))
        timeout_s = tool.timeout_ns / 1e9
        if tool.command is not None:
            output = await run_command(tool.command, named, tool.directory, timeout_s)
            return _from_text(tool.result, output)
        assert tool.impl is not None
        value = await self._implementations.call(tool.impl, tool.directory, named, timeout_s)
        return _conform(tool.result, value)


def _from_text(kind: AnswerType, output: str) -> Value:
    """Return what a command printed: text as it is, all else JSON; a literal may be bare."""
    if kind["kind"] == "text" or (kind["kind"] == "enum" and output in kind["values"]):
        return _conform(kind, output)
    try:
        value: object = json.loads(output)
    except (ValueError, RecursionError):
        raise _mismatch(kind, output, "it is no JSON") from None
    return _conform(kind, value)


def _conform(kind: AnswerType, value: object) -> Value:
    """Return the value as one of the type: tuples become lists, ints floats where declared."""
    if kind["kind"] == "optional":
        return None if value is None else _conform(kind["item"], value)
    if kind["kind"] in ("text", "enum"):
        if not isinstance(value, str):
            raise _mismatch(kind, value, f"it is of type {type(value).__name__}")
        return _parse(kind, value, value)
    try:
        data = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _mismatch(kind, value, str(error)) from None
    return _parse(kind, data, value)


def _parse(kind: AnswerType, text: str, value: object) -> Value:
    try:
        return parse_answer(kind, text)
    except AnswerError as error:
        raise _mismatch(kind, value, str(error)) from None


def _mismatch(kind: AnswerType, value: object, reason: str) -> AnswerError:
    shown = repr(value)
    if len(shown) > _SHOWN_CHARACTERS:
        shown = shown[:_SHOWN_CHARACTERS] + "…"
    return AnswerError(f"gave {shown} where {describe(kind)} is declared: {reason}")
