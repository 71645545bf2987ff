"""`tokenloom run` and `tokenloom bench`: what takes a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tokenloom.cli.compiling import (
    DeviceName,
    MachineName,
    ModeName,
    options_of,
    show_warnings,
)
from tokenloom.cli.console import error_console, stdout_for_results, table_console
from tokenloom.cli.run_view import RunView, summary

if TYPE_CHECKING:
    from tokenloom.bench.report import ResultTable

Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "-i",
        "--input",
        metavar="NAME=VALUE",
        help="An input: text as it is, other types as JSON, @FILE reads a file.",
    ),
]


def run(
    program: Annotated[Path, typer.Argument(help="A .loom file or a bundle.", show_default=False)],
    inputs: Inputs = None,
    workflow: Annotated[str | None, typer.Option(help="Which workflow; else the only one.")] = None,
    device: Annotated[
        DeviceName | None, typer.Option(help="Where decode attention and KV pages go. [host]")
    ] = None,
    mode: Annotated[
        ModeName | None, typer.Option(help="exact: bit-equal under any batching. [fast]")
    ] = None,
    machine: MachineName = None,
    seed: Annotated[int, typer.Option(help="Seed of all sampling.")] = 0,
    batch: Annotated[int, typer.Option(min=1, max=256, help="Most requests in a step.")] = 16,
    trace: Annotated[Path | None, typer.Option(help="Write a Perfetto trace here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run a workflow. Answers appear as they come; the result goes to stdout."""
    from tokenloom import driver
    from tokenloom.runtime.interrupts import interrupts_kept
    from tokenloom.runtime.session import RunOptions

    if program.is_dir() and (device or mode or machine):
        raise typer.BadParameter(
            f"{program} is a bundle, compiled for a device, mode and machine: compile it again"
            " to change them"
        )
    given = parse_pairs(inputs or [])
    console = error_console()
    with stdout_for_results(), RunView(console, quiet=as_json) as view:
        view.stage(f"Compiling {program}")
        if program.is_dir():
            loaded = driver.load(program)
        else:
            options = options_of(program, device or DeviceName.HOST, mode or ModeName.FAST, machine)
            with interrupts_kept():
                compiled = driver.compile(program, driver.with_fallback(options, view.note))
            show_warnings(compiled.warnings)
            loaded = driver.loaded(compiled)
        result = driver.run(
            loaded,
            given,
            RunOptions(workflow=workflow, seed=seed, max_batch=batch),
            listener=view,
            trace_path=trace,
        )
    if as_json:
        typer.echo(json.dumps(result.to_json(), ensure_ascii=False))
        return
    console.print(summary(driver.closing_figures(loaded, result)))
    data = result.to_json()["result"]
    typer.echo(data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, indent=2))


def parse_pairs(pairs: list[str]) -> dict[str, str]:
    """Split `name=value` options. Raises BadParameter for one without `=` or given twice."""
    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"'{pair}' is not NAME=VALUE", param_hint="-i")
        if name in given:
            raise typer.BadParameter(f"'{name}' is given twice", param_hint="-i")
        given[name] = value
    return given


def bench(
    name: Annotated[str, typer.Argument(help="An experiment; `list` names them.")],
    quick: Annotated[bool, typer.Option(help="Fewer and smaller cases.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run an experiment and print its tables."""
    from tokenloom.bench import EXPERIMENTS, experiment

    if name == "list":
        for key, text in EXPERIMENTS.items():
            typer.echo(f"{key:10} {text}")
        return
    if name not in EXPERIMENTS:
        known = ", ".join(EXPERIMENTS)
        raise typer.BadParameter(f"no experiment '{name}'; there are: {known}", param_hint="NAME")
    with error_console().status(f"Measuring {name}"):
        report = experiment(name)(quick)
    if as_json:
        typer.echo(json.dumps(report.to_json()))
        return
    table_console().print(", ".join(f"{k} {v}" for k, v in report.machine.items()), style="dim")
    for table in report.tables:
        table_console().print(draw(table))
        for remark in table.remarks:
            table_console().print(remark)


def draw(result: ResultTable) -> Table:
    """Return a result table for the terminal."""
    table = Table(*result.columns, title=result.title, title_justify="left")
    for row in result.rows:
        table.add_row(*row)
    return table
