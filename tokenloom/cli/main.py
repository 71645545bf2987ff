"""The entry point: runs a command and turns every error into a message and an exit code.

0: fine. 1: the program failed while it ran, or was interrupted. 2: the input is wrong.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click
import typer

from tokenloom.cli.app import app
from tokenloom.cli.console import error_console

_INPUT_ERRORS = (
    ("tokenloom.compiler.diagnostics", "CompileError"),
    ("tokenloom.compiler.diagnostics", "CompileErrors"),
    ("tokenloom.models.errors", "ModelError"),
    ("tokenloom.backends.machine_reader", "MachineError"),
    ("tokenloom.runtime.errors", "InputError"),
    ("tokenloom.runtime.errors", "BundleError"),
)
_RUN_ERRORS = (
    ("tokenloom.runtime.errors", "RunError"),
    ("tokenloom.backends.device", "DeviceError"),
)


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command and return its exit code; messages are on stderr."""
    try:
        code = app(args=arguments, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        error_console().print("Interrupted. Nothing was left running or half-written.")
        return 1
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the reader has gone: print no more
        return 1
    except Exception as error:
        return report(error)
    return code if isinstance(code, int) else 0


def report(error: Exception) -> int:
    """Print what a person can do something about; anything else is a defect of ours."""
    if os.environ.get("TOKENLOOM_DEBUG"):
        raise error
    code = exit_code(error)
    console = error_console()
    if code:
        text = str(error)
        console.print(text if "error:" in text else f"error: {text}", markup=False, soft_wrap=True)
        return code
    console.print(
        f"error: internal error: {type(error).__name__}: {error}\n"
        "This is a defect of TokenLoom. TOKENLOOM_DEBUG=1 shows where it happened.",
        markup=False,
        soft_wrap=True,
    )
    return 1


def exit_code(error: Exception) -> int:
    """Return 2 for wrong input, 1 for a failed run, 0 for an error that nobody planned."""
    if isinstance(error, typer.BadParameter | OSError):
        return 2
    for code, classes in ((2, _INPUT_ERRORS), (1, _RUN_ERRORS)):
        for module, name in classes:
            if module in sys.modules and isinstance(error, getattr(import_module(module), name)):
                return code
    return 0
