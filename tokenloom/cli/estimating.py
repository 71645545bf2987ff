"""`tokenloom estimate`: what a token of a model takes on a described machine."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from tokenloom.cli.console import output_console
from tokenloom.cli.pim_options import Level, PowerCap

if TYPE_CHECKING:
    from tokenloom.backends.system.estimate import Estimate

_MOST = 1 << 24


class DtypeName(StrEnum):
    """What weights, activations and KV are kept in."""

    FP16 = "fp16"
    BF16 = "bf16"
    FP32 = "fp32"
    INT8 = "int8"


_DTYPES = {
    DtypeName.FP16: "float16",
    DtypeName.BF16: "bfloat16",
    DtypeName.FP32: "float32",
    DtypeName.INT8: "int8",
}


def estimate(
    model: Annotated[str, typer.Option(help="A model's name or path; see `models list`.")],
    machine: Annotated[str, typer.Option(help="A machine's name or TOML file.")],
    batch: Annotated[int, typer.Option(min=1, max=_MOST, help="Requests at a time.")] = 1,
    prompt: Annotated[
        int, typer.Option("--input", min=1, max=_MOST, help="Tokens of each prompt.")
    ] = 2048,
    output: Annotated[int, typer.Option(min=2, max=_MOST, help="Tokens of each answer.")] = 128,
    dtype: Annotated[DtypeName, typer.Option(help="Of weights, activations and KV.")] = (
        DtypeName.FP16
    ),
    devices: Annotated[int | None, typer.Option(min=1, help="Devices, not the machine's.")] = None,
    level: Level = None,
    power_cap: PowerCap = None,
    overlap: Annotated[
        bool | None,
        typer.Option("--overlap/--no-overlap", help="Projections behind attention in the stacks."),
    ] = None,
    share_feed_forward: Annotated[
        bool | None,
        typer.Option("--share-ff/--no-share-ff", help="A part of the MLP in the stacks."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Estimate time and energy of a generated token: FC, attention, communication, other."""
    from pathlib import Path

    from tokenloom.backends.device import DeviceError
    from tokenloom.backends.machine import load_machine
    from tokenloom.backends.system.estimate import Workload, configured
    from tokenloom.backends.system.estimate import estimate as estimate_on
    from tokenloom.compiler.analysis.model_costs import model_shape
    from tokenloom.models.registry import resolve

    described = load_machine(machine)
    shape = model_shape(resolve(model, Path.cwd()).config)
    try:
        described = configured(
            described,
            devices=devices,
            level=level,
            power_cap=power_cap,
            overlap=overlap,
            share_feed_forward=share_feed_forward,
        )
        found = estimate_on(described, shape, Workload(batch, prompt, output, _DTYPES[dtype]))
    except DeviceError as error:
        raise typer.BadParameter(str(error)) from None
    if as_json:
        asked = {"model": model, "machine": described.name, "batch": batch, "input": prompt}
        typer.echo(json.dumps({**asked, "output": output, "dtype": dtype.value, **_json(found)}))
        return
    title = f"{model} on {described.name}, {batch} x ({prompt} + {output}) tokens, {dtype.value}"
    output_console().print(_table(found, title))
    for line in _lines(found):
        output_console().print(line, soft_wrap=True)


def _json(found: Estimate) -> dict[str, Any]:
    capacity = found.capacity
    energy_mj = {name: pj / found.batch / 1e9 for name, pj in found.energy_pj.items()}
    return {
        "ms_per_token": found.step_ns / 1e6,
        "ms_by_component": {name: ns / 1e6 for name, ns in found.time_ns.items()},
        "tokens_per_s": found.tokens_per_s,
        "prefill_ms": found.prefill_ns / 1e6,
        "energy_mj_per_token": found.token_energy_pj / 1e9,
        "energy_mj_by_component": energy_mj,
        "memory_bytes": capacity.memory_bytes,
        "weight_bytes": capacity.weight_bytes,
        "kv_bytes_at_mean_length": capacity.mean_kv_bytes * found.batch,
        "requests_that_fit": capacity.requests_fit,
        "requests_that_fit_at_full_length": capacity.requests_fit_at_full_length,
        "notes": list(capacity.notes),
    }


def _table(found: Estimate, title: str) -> Table:
    table = Table("component", title=title)
    for name in ("ms a token", "share", "mJ a token", "share"):
        table.add_column(name, justify="right")
    names = dict.fromkeys([*found.time_ns, *found.energy_pj])
    for name in names:
        ns, pj = found.time_ns.get(name, 0.0), found.energy_pj[name] / found.batch
        table.add_row(
            name,
            f"{ns / 1e6:.3f}",
            f"{ns / found.step_ns:.1%}",
            f"{pj / 1e9:.2f}",
            f"{pj / found.token_energy_pj:.1%}",
        )
    table.add_section()
    table.add_row("all", f"{found.step_ns / 1e6:.3f}", "", f"{found.token_energy_pj / 1e9:.2f}", "")
    return table


def _lines(found: Estimate) -> list[str]:
    capacity = found.capacity
    return [
        f"{found.tokens_per_s:,.1f} tokens/s; the prompts of all {found.batch} take "
        f"{found.prefill_ns / 1e6:,.1f} ms",
        f"Memory {capacity.memory_bytes / 2**30:,.0f} GiB, weights "
        f"{capacity.weight_bytes / 2**30:,.0f} GiB: {capacity.requests_fit:,} requests fit, "
        f"{capacity.requests_fit_at_full_length:,} if all reach their last token together",
        *(f"Note: {note}" for note in capacity.notes),
    ]
