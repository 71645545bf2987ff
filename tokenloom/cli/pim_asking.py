"""`tokenloom pim attention` and `tokenloom pim gemv`: what one stack takes for a kernel."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenloom.cli.pim_options import (
    AsJson,
    Dtype,
    DtypeName,
    HeadDim,
    Heads,
    KvHeads,
    Level,
    Machine,
    PowerCap,
    input_errors,
    stack_of,
)

if TYPE_CHECKING:
    from tokenloom.backends.pim.report import StackReport
    from tokenloom.backends.pim.stack import PimStack

Event = Annotated[
    bool,
    typer.Option(
        "--event/--closed", help="Time each command, or take the closed form, which is quick."
    ),
]


def attention(
    machine: Machine,
    length: Annotated[int, typer.Option(min=1, help="Tokens of each head.")],
    heads: Heads = 1,
    head_dim: HeadDim = 128,
    kv_heads: KvHeads = None,
    dtype: Dtype = DtypeName.FP16,
    level: Level = None,
    power_cap: PowerCap = None,
    event: Event = True,
    as_json: AsJson = False,
) -> None:
    """Show what attention of some heads takes on one of a machine's stacks."""
    from tokenloom.backends.pim.report import AttentionQuestion, report

    stack = stack_of(machine, level, power_cap)
    asked = AttentionQuestion(heads, kv_heads or heads, length, head_dim, dtype.element_bytes)
    with input_errors():
        if event:
            found = report(asked.timed(stack), stack, dtype.element_bytes)
        else:
            found = asked.in_closed_form(stack)
    about = {"dtype": dtype.value, **asdict(asked), "method": "event" if event else "closed"}
    _show("attention", machine, stack, about, found, as_json)


def gemv(
    machine: Machine,
    rows: Annotated[int, typer.Option(min=1, help="Outputs.")],
    cols: Annotated[int, typer.Option(min=1, help="Inputs.")],
    dtype: Dtype = DtypeName.FP16,
    level: Level = None,
    power_cap: PowerCap = None,
    as_json: AsJson = False,
) -> None:
    """Show what a matrix-vector product takes on one of a machine's stacks."""
    from tokenloom.backends.pim.report import gemv_timed, report

    stack = stack_of(machine, level, power_cap)
    with input_errors():
        timed = gemv_timed(stack, rows, cols, dtype.value)
        found = report(timed, stack, dtype.element_bytes)
    about = {"dtype": dtype.value, "rows": rows, "cols": cols, "method": "event"}
    _show("gemv", machine, stack, about, found, as_json)


def _show(
    kernel: str,
    machine: str,
    stack: PimStack,
    about: dict[str, Any],
    found: StackReport,
    as_json: bool,
) -> None:
    data: dict[str, Any] = {
        "kernel": kernel,
        "machine": machine,
        "level": stack.level,
        "power_cap": stack.power_cap,
        **about,
        "cycles": found.cycles,
        "time_ns": found.time_ns,
        "commands": dict(found.commands),
        "bytes": {"units": found.unit_bytes, "moves": found.moved_bytes},
        "unit_bytes_per_s": found.unit_bytes_per_s,
        "energy_j": {**found.energy.components, "total": found.energy.total},
    }
    if as_json:
        typer.echo(json.dumps(data))
    else:
        _print(data)


def _print(data: dict[str, Any]) -> None:
    from rich.table import Table

    from tokenloom.cli.console import output_console
    from tokenloom.cli.quantity import duration, rate, size

    cap = "power capped" if data["power_cap"] else "no power cap"
    console = output_console()
    heading = f"{data['kernel']} on one stack of {data['machine']}: {data['level']} level, {cap}"
    console.print(heading, soft_wrap=True)
    table = Table("what", "how much")
    how = "each command timed" if data["method"] == "event" else "closed form"
    table.add_row("cycles", f"{data['cycles']:,} ({how})")
    table.add_row("time", duration(data["time_ns"]))
    for name, count in data["commands"].items():
        table.add_row(f"{name} commands", f"{count:,}")
    for name, size_bytes in data["bytes"].items():
        table.add_row(f"bytes of {name}", size(size_bytes))
    table.add_row("units read at", rate(data["unit_bytes_per_s"], "B/s"))
    for name, energy_j in data["energy_j"].items():
        if energy_j:
            table.add_row(f"energy, {name}", f"{energy_j * 1e6:,.4g} uJ")
    console.print(table)
