"""`tokenloom check`, `compile` and `plan`: everything short of running."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenloom.cli.console import error_console, output_console, stdout_for_results

if TYPE_CHECKING:
    from tokenloom.compiler.diagnostics import Diagnostic
    from tokenloom.compiler.options import CompileOptions


class DeviceName(StrEnum):
    """Where decode attention and the KV pages go."""

    HOST = "host"
    PIM = "pim"
    CUDA = "cuda"


class ModeName(StrEnum):
    """`exact`: bit-equal under any batching. `fast`: the best kernels."""

    EXACT = "exact"
    FAST = "fast"


class PhaseName(StrEnum):
    """Where lowering stops."""

    FLOW = "flow"
    KV = "kv"
    NN = "nn"
    EXEC = "exec"


Script = Annotated[Path, typer.Argument(help="A .loom file.", show_default=False)]
Device = Annotated[DeviceName, typer.Option(help="Where decode attention and KV pages go.")]
NumericMode = Annotated[ModeName, typer.Option(help="exact: bit-equal under any batching.")]
MachineName = Annotated[
    str | None, typer.Option("--machine", help="A machine's name or TOML file, to plan for.")
]


def options_of(
    script: Path, device: DeviceName, mode: ModeName, machine: str | None
) -> CompileOptions:
    """Return the compiler's options for a script; models' paths start in its folder."""
    from tokenloom.compiler.options import CompileOptions

    return CompileOptions(
        base_dir=script.parent, device=device.value, machine=machine, mode=mode.value
    )


def show_warnings(warnings: tuple[Diagnostic, ...]) -> None:
    """Print the checker's warnings."""
    for warning in warnings:
        error_console().print(str(warning), soft_wrap=True)


def check(scripts: Annotated[list[Path], typer.Argument(help=".loom files.")]) -> int:
    """Check scripts: syntax, names, types, budgets."""
    from tokenloom.compiler.diagnostics import CompileErrors
    from tokenloom.driver import check as check_script

    failed = 0
    for script in scripts:
        try:
            with stdout_for_results():
                warnings = check_script(script)
        except CompileErrors as errors:
            failed += 1
            error_console().print(str(errors), soft_wrap=True)
        else:
            show_warnings(warnings)
            typer.echo(f"{script}: no errors")
    return 2 if failed else 0


def compile_script(
    script: Script,
    output: Annotated[Path, typer.Option("-o", "--output", help="Bundle folder, or - to print.")],
    to: Annotated[PhaseName, typer.Option(help="Stop after this phase and write its IR.")] = (
        PhaseName.EXEC
    ),
    dump_ir: Annotated[
        Path | None, typer.Option(help="Write the IR after each pass into this folder.")
    ] = None,
    device: Device = DeviceName.HOST,
    mode: NumericMode = ModeName.FAST,
    machine: MachineName = None,
) -> None:
    """Compile a script into a bundle; with --to, into the IR of an earlier phase."""
    from tokenloom import driver

    options = options_of(script, device, mode, machine)
    with stdout_for_results(), error_console().status(f"Compiling {script}"):
        compiled = driver.compile(script, options, to=to.value, dump_dir=dump_ir)
    show_warnings(compiled.warnings)
    if str(output) == "-":
        typer.echo(driver.module_text(compiled))
    elif to is PhaseName.EXEC:
        driver.write_bundle(compiled, output)
        error_console().print(f"Wrote {output}")
    else:
        driver.write_text(output, driver.module_text(compiled, locations=True))
        error_console().print(f"Wrote {output}")


def plan(
    script: Script,
    device: Device = DeviceName.HOST,
    mode: NumericMode = ModeName.FAST,
    machine: MachineName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print plan.json.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the tables as an HTML page.")] = None,
) -> None:
    """Show what the compiler decided and why, and what it predicts."""
    from tokenloom import driver
    from tokenloom.cli import plan_view

    options = options_of(script, device, mode, machine)
    with stdout_for_results(), error_console().status(f"Planning {script}"):
        compiled = driver.compile(script, options)
    show_warnings(compiled.warnings)
    if html:
        driver.write_text(html, plan_view.page(compiled.plan, f"Plan of {script.name}"))
        error_console().print(f"Wrote {html}")
    if as_json:
        typer.echo(json.dumps(compiled.plan.to_json(), indent=2))
    elif not html:
        for table in plan_view.tables(compiled.plan):
            output_console().print(table)
        for line in [*plan_view.decision_lines(compiled.plan), *compiled.plan.assumptions]:
            output_console().print(line)
