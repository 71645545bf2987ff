"""`tokenloom models` and `tokenloom machines`: what there is to run and to plan for."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from tokenloom.cli.console import error_console, output_console

models = typer.Typer(help="List, show and fetch models.", no_args_is_help=True)
machines = typer.Typer(help="List and show machine descriptions.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@models.command("list")
def list_models(as_json: Json = False) -> None:
    """List the models that have a name."""
    from tokenloom.models.registry import available

    infos = available()
    if as_json:
        typer.echo(json.dumps([asdict(info) for info in infos]))
        return
    table = Table("model", "kind", "here", "download", "what")
    for info in infos:
        size = f"{info.size_bytes / 1e6:.0f} MB" if info.size_bytes else ""
        table.add_row(info.name, info.kind, "yes" if info.installed else "", size, info.description)
    output_console().print(table)


@models.command("show")
def show_model(name: str, as_json: Json = False) -> None:
    """Show a model's configuration."""
    from pathlib import Path

    from tokenloom.models.registry import resolve

    config = resolve(name, Path.cwd()).config
    data = config.to_json()
    if as_json:
        typer.echo(json.dumps(data))
        return
    table = Table("key", "value", title=name, show_header=False)
    for key, value in data.items():
        table.add_row(key, str(value))
    table.add_row("parameters", f"{config.num_parameters():,}")
    table.add_row("KV bytes per token (float32)", f"{config.kv_bytes_per_token(4):,}")
    output_console().print(table)


@models.command("fetch")
def fetch_model(name: str) -> None:
    """Bring a model to the cache and check it."""
    from tokenloom.models.registry import fetch

    path = fetch(name, lambda line: error_console().print(line))
    typer.echo(str(path))


@machines.command("list")
def list_machine_names(as_json: Json = False) -> None:
    """List the machines that come with the package."""
    from tokenloom.backends.machine import list_machines, load_machine

    names = list_machines()
    if as_json:
        typer.echo(json.dumps(list(names)))
        return
    table = Table("machine", "what")
    for name in names:
        table.add_row(name, load_machine(name).description)
    output_console().print(table)


@machines.command("show")
def show_machine(
    name: str,
    sources: Annotated[
        bool, typer.Option("--sources", help="Say of each number where it comes from.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a machine, a name from the list or a TOML file: its numbers and its memory stack."""
    from tokenloom.backends.machine import load_machine
    from tokenloom.cli.machine_view import level_table, section_table, sections
    from tokenloom.cli.stack_view import stack_drawing

    machine = load_machine(name)
    if as_json:
        typer.echo(json.dumps(asdict(machine), default=dict))
        return
    console = output_console()
    console.print(f"{machine.name}: {machine.description}\n", soft_wrap=True)
    if machine.pim:
        for line in stack_drawing(machine.pim):
            console.print(line, soft_wrap=True)
        console.print()
    for section in sections(machine):
        console.print(section_table(section, sources=sources))
    if machine.pim and machine.pim.computes:
        console.print(level_table(machine.pim))
