"""A tool that is a command: an argument list run in its own process group, never a shell."""

from __future__ import annotations

import asyncio
import os
import signal
import string
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tokenloom.runtime.values import Value, text_of

MAX_OUTPUT_BYTES = 1_000_000
_KEPT_ERROR_BYTES = 4000


class CommandError(Exception):
    """The command did not start, failed, took too long or printed what cannot be read."""


def fill_in(command: Sequence[str], values: Mapping[str, Value]) -> list[str]:
    """Return the arguments: `{name}` is the value as printed, inside its one argument."""
    return [_fill_in(piece, values) for piece in command]


def _fill_in(piece: str, values: Mapping[str, Value]) -> str:
    parsed = string.Formatter().parse(piece)
    return "".join(
        text + (text_of(values[name]) if name is not None else "") for text, name, _, _ in parsed
    )


async def run_command(
    command: Sequence[str], values: Mapping[str, Value], directory: Path, timeout_s: float
) -> str:
    """Return what the command printed, without one newline at the end.

    Whatever happens, nothing of its process group is left. Raises CommandError.
    """
    arguments = fill_in(command, values)
    try:
        transport, process = await asyncio.get_running_loop().subprocess_exec(
            _Process,
            *arguments,
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CommandError(f"could not start {arguments[0]!r}: {reason}") from error
    try:
        async with asyncio.timeout(timeout_s):
            await process.ended
            _kill_group(transport)  # a child left behind would keep the pipes open
            await process.closed
    except TimeoutError:
        raise CommandError(f"took longer than {timeout_s:g} s and was stopped") from None
    finally:
        _kill_group(transport)
        # Closing asks for the status itself, and must not take it from who waits for it.
        await asyncio.shield(process.gone)
        transport.close()
        await asyncio.shield(process.closed)
    return _checked_output(arguments[0], transport.get_returncode() or 0, process)


class _Process(asyncio.SubprocessProtocol):
    """What a process prints, and three moments.

    `ended` is its end, or the failure it is to be ended for; `gone` its end; `closed` that of its
    pipes as well.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.output = bytearray()
        self.errors = b""
        self.ended: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            self.errors = (self.errors + data)[-_KEPT_ERROR_BYTES:]
            return
        if len(self.output) <= MAX_OUTPUT_BYTES:
            self.output += data
        if len(self.output) > MAX_OUTPUT_BYTES and not self.ended.done():
            self.ended.set_exception(CommandError(f"printed more than {MAX_OUTPUT_BYTES} bytes"))

    def process_exited(self) -> None:
        self.gone.set_result(None)
        if not self.ended.done():
            self.ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)


def _kill_group(transport: asyncio.SubprocessTransport) -> None:
    with suppress(ProcessLookupError):
        os.killpg(transport.get_pid(), signal.SIGKILL)


def _checked_output(name: str, status: int, process: _Process) -> str:
    said = process.errors.decode("utf-8", "replace").strip()
    if status != 0:
        how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
        raise CommandError(f"{how} ({name}): {said or 'nothing on stderr'}")
    if len(process.output) > MAX_OUTPUT_BYTES:
        raise CommandError(f"printed more than {MAX_OUTPUT_BYTES} bytes")
    try:
        return process.output.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise CommandError(f"printed what is not UTF-8, at byte {error.start}") from None
