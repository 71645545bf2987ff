"""The entry point: runs a command and turns every error into a message and an exit code.

0: fine. 1: the program failed while it ran, or was interrupted. 2: the input is wrong.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from types import FrameType

import typer
import typer.main

from tokenloom.cli.app import app
from tokenloom.cli.children import adopt_orphans, end_children
from tokenloom.cli.console import error_console

_COMPILE_ERRORS = (
    ("tokenloom.compiler.diagnostics", "CompileError"),
    ("tokenloom.compiler.diagnostics", "CompileErrors"),
)
_INPUT_ERRORS = (
    *_COMPILE_ERRORS,
    ("tokenloom.models.errors", "ModelError"),
    ("tokenloom.backends.machine_reader", "MachineError"),
    ("tokenloom.backends.pim.errors", "StreamError"),
    ("tokenloom.runtime.errors", "InputError"),
    ("tokenloom.runtime.errors", "BundleError"),
)
_RUN_ERRORS = (
    ("tokenloom.runtime.errors", "RunError"),
    ("tokenloom.backends.device", "DeviceError"),
)


def main() -> None:
    """Run the command line and exit; whatever happens, no process of it is left."""
    adopt_orphans()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` has it ignored
            signal.signal(number, _interrupt)
    try:
        code = run_command(sys.argv[1:])
    except KeyboardInterrupt:  # a second one, while the first was handled
        code = 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        end_children()
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Do what Ctrl-C does, which the event loop has a handler of its own for."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):  # ignored, as in a shell's background job
        raise KeyboardInterrupt
    handler(number, frame)


def run_command(arguments: list[str]) -> int:
    """Run one command and return its exit code; messages are on stderr."""
    try:
        code = _invoke(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()  # that nobody reads any more must show here, not at the exit
    except typer.TyperException as error:
        text = error.format_message()
        is_help = text.startswith("Usage:")  # a command group was named and no command
        error_console().print(text if is_help else f"error: {text}", soft_wrap=True)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        error_console().print("Interrupted. Nothing was left running or half-written.")
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader has gone: print no more
        return 1
    except Exception as error:
        return report(error)
    return code if isinstance(code, int) else 0


def _invoke(arguments: list[str]) -> object:
    """Run a command without typer's own handling, which turns Ctrl-C into a bare exit code."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("tokenloom", list(arguments)) as context:
            return command.invoke(context)
    except typer.Exit as end:
        return end.exit_code


def report(error: Exception) -> int:
    """Print what a person can do something about; anything else is a defect of ours."""
    if os.environ.get("TOKENLOOM_DEBUG"):
        raise error
    code = exit_code(error)
    console = error_console()
    if code:
        console.print(_message(error), soft_wrap=True)
        return code
    console.print(
        f"error: internal error: {type(error).__name__}: {error}\n"
        "This is a defect of TokenLoom. TOKENLOOM_DEBUG=1 shows where it happened.",
        soft_wrap=True,
    )
    return 1


def _message(error: Exception) -> str:
    if _is_one_of(error, _COMPILE_ERRORS):
        return str(error)  # each of its errors has place and severity
    if isinstance(error, OSError) and error.filename is not None:
        return f"error: {os.fsdecode(error.filename)}: {error.strerror}"
    return f"error: {error}"


def exit_code(error: Exception) -> int:
    """Return 2 for wrong input, 1 for a failed run, 0 for an error that nobody planned."""
    if isinstance(error, OSError) or _is_one_of(error, _INPUT_ERRORS):
        return 2
    return 1 if _is_one_of(error, _RUN_ERRORS) else 0


def _is_one_of(error: Exception, classes: tuple[tuple[str, str], ...]) -> bool:
    """Compare with classes by name: what has not been imported has not been raised."""
    return any(
        module in sys.modules and isinstance(error, getattr(import_module(module), name))
        for module, name in classes
    )
