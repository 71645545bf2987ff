"""Values that may not be there yet: futures, also inside lists, records and agents."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import cast

from tokenloom.runtime.steps import Agent, Slot
from tokenloom.runtime.values import Value

Pending = asyncio.Future[Value]


class Frame:
    """The values of one run of a block, inside those of the block around it."""

    __slots__ = ("_around", "_values")

    def __init__(self, around: Frame | None, slots: Iterable[Slot], values: Iterable[Value]):
        self._around = around
        self._values = dict(zip(slots, values, strict=True))

    def __getitem__(self, slot: Slot) -> Value:
        frame = self
        while slot not in frame._values:
            assert frame._around is not None, "the IR's dominance was verified"
            frame = frame._around
        return settle(frame._values[slot])

    def __setitem__(self, slot: Slot, value: Value) -> None:
        self._values[slot] = value

    def many(self, slots: Iterable[Slot]) -> list[Value]:
        """Return several values."""
        return [self[slot] for slot in slots]

    def forget(self, slot: Slot) -> None:
        """Let go of a value that nothing reads any more."""
        self._values.pop(slot, None)


def settle(value: Value) -> Value:
    """Return what a future holds if it is there, else the future."""
    while isinstance(value, asyncio.Future):
        future = cast("Pending", value)
        if not future.done() or future.cancelled() or future.exception() is not None:
            return future
        value = future.result()
    return value


def is_ready(value: Value, *, is_deep: bool) -> bool:
    """Say whether a settled value is there, with `is_deep` all that is in it too."""
    if isinstance(value, asyncio.Future):
        return False
    return not is_deep or all(is_ready(settle(part), is_deep=True) for part in _parts(value))


async def wait_outside(value: Value) -> Value:
    """Wait until a value is there, but for what is in it."""
    while isinstance(value, asyncio.Future):
        # The future may have other readers, so cancelling one of them must not cancel it.
        future = cast("Pending", value)
        if not future.done():
            await asyncio.wait({future})
        value = future.result()
    return value


async def wait_inside(value: Value) -> Value:
    """Wait until a value is there with all that is in it; return it without futures."""
    value = await wait_outside(value)
    if is_ready(value, is_deep=True):
        return complete(value)
    for part in _parts(value):
        await wait_inside(part)
    return complete(value)


def complete(value: Value) -> Value:
    """Return a value that is there without any futures in it."""
    value = settle(value)
    match value:
        case list():
            return [complete(item) for item in cast("list[Value]", value)]
        case dict():
            fields = cast("dict[str, Value]", value)
            return {name: complete(field) for name, field in fields.items()}
        case Agent(name, arguments):
            return Agent(name, tuple(complete(argument) for argument in arguments))
        case _:
            return value


def _parts(value: Value) -> Iterable[Value]:
    match value:
        case list():
            return cast("list[Value]", value)
        case dict():
            return cast("dict[str, Value]", value).values()
        case Agent(_, arguments):
            return arguments
        case _:
            return ()


def forward(source: Value, target: Pending) -> None:
    """Give `target` the value of `source`, or its failure, as soon as there is one."""
    if not isinstance(source, asyncio.Future):
        target.set_result(source)
        return
    future = cast("Pending", source)
    future.add_done_callback(lambda done: _copy(done, target))


def fail(target: Pending, error: BaseException) -> None:
    """Let a future fail, whether or not anybody reads it."""
    if not target.done():
        target.set_exception(error)
        target.exception()  # else asyncio complains about a failure that nobody read


def _copy(source: Pending, target: Pending) -> None:
    if target.done():
        return
    if source.cancelled():
        target.cancel()
        return
    error = source.exception()
    if error is not None:
        fail(target, error)
    else:
        target.set_result(source.result())
