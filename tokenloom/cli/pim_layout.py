"""`tokenloom pim layout`: where a tensor lies in a machine's memory stacks."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenloom.cli.console import error_console, output_console

if TYPE_CHECKING:
    from tokenloom.backends.pim.drawing import TensorMap
    from tokenloom.backends.pim.stack import PimStack

_MOST = 1 << 40


class TensorName(StrEnum):
    """Tensors that have a layout."""

    KV = "kv"
    GEMV = "gemv"


def layout(
    machine: Annotated[str, typer.Option(help="A machine with a PIM stack, or a TOML file.")],
    tensor: Annotated[TensorName, typer.Option(help="Which tensor.")] = TensorName.KV,
    heads: Annotated[int | None, typer.Option(min=1, max=_MOST, help="kv: KV heads.")] = None,
    head_dim: Annotated[int | None, typer.Option(min=1, max=_MOST, help="kv: dimensions.")] = None,
    length: Annotated[int | None, typer.Option(min=1, max=_MOST, help="kv: tokens.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, max=_MOST, help="gemv: outputs.")] = None,
    cols: Annotated[int | None, typer.Option(min=1, max=_MOST, help="gemv: inputs.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Also draw it into this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show where a tensor lies: which channels and rows, and what each bank of a slot holds."""
    from tokenloom.backends.device import DeviceError
    from tokenloom.backends.machine import load_machine
    from tokenloom.cli.layout_view import map_lines

    stack = load_machine(machine).pim
    if stack is None:
        raise typer.BadParameter(f"{machine} has no PIM stack", param_hint="--machine")
    try:
        if tensor is TensorName.GEMV:
            found = _gemv(stack, rows, cols)
        else:
            found = _kv(stack, heads, head_dim, length)
    except DeviceError as error:
        raise typer.BadParameter(str(error)) from None
    if svg is not None:
        _write_svg(svg, found)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    for line in map_lines(found):
        output_console().print(line, soft_wrap=True)


def _kv(stack: PimStack, heads: int | None, head_dim: int | None, length: int | None) -> TensorMap:
    from tokenloom.backends.pim.drawing import kv_map

    if heads is None or head_dim is None or length is None:
        raise typer.BadParameter("kv needs --heads, --head-dim and --length")
    return kv_map(stack, heads, head_dim, length)


def _gemv(stack: PimStack, rows: int | None, cols: int | None) -> TensorMap:
    from tokenloom.backends.pim.gemv_drawing import gemv_map

    if rows is None or cols is None:
        raise typer.BadParameter("gemv needs --rows and --cols")
    return gemv_map(stack, rows, cols)


def _write_svg(path: Path, tensor: TensorMap) -> None:
    from tokenloom.cli.layout_svg import map_svg
    from tokenloom.driver import write_text

    write_text(path, map_svg(tensor))
    error_console().print(f"Wrote {path}")
