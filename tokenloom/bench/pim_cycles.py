"""Cycles and energy of attention on one HBM3 stack, beside the AttAcc simulator.

Three figures of ours for each of the simulator's: the event model and the closed form with
`compat="attacc"`, which follow the simulator where it differs from a memory that works, and the
event model as it is.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.paths import array_pj_per_byte
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.attacc_stream import attention_stream
from tokenloom.backends.pim.streams.rows import with_rows
from tokenloom.backends.pim.timing.closed_form import attention_cycles
from tokenloom.backends.pim.timing.constraints import Compat
from tokenloom.backends.pim.timing.event_model import time_stream
from tokenloom.bench.report import ResultTable

MACHINE = "attacc-hbm3"
HEAD_DIM = 128
QUICK_LENGTH = 512


def tables(quick: bool) -> list[ResultTable]:
    """Return the table of cycles and that of energy a byte."""
    text = files("tokenloom.bench").joinpath("pim_reference.toml").read_text("utf-8")
    reference: dict[str, Any] = tomllib.loads(text)
    stack = load_machine(MACHINE).pim
    if stack is None:
        raise ValueError(f"machine {MACHINE} has no stack")
    return [_cycles(reference, stack, quick), _energy(reference["energy_pj_per_byte"], stack)]


def event_cycles(stack: PimStack, heads: int, length: int, compat: Compat | None) -> int:
    """Return what the event model finds for the reference mapping."""
    stream = attention_stream(stack, heads, length, HEAD_DIM, compat=compat)
    return time_stream(with_rows(stream, stack), stack, compat=compat).cycles


def _cycles(reference: dict[str, Any], stack: PimStack, quick: bool) -> ResultTable:
    table = ResultTable(
        "Cycles of attention on one HBM3 stack, head dimension 128, FP16 (model)",
        ("units", "heads", "L", "AttAcc", "event", "error", "closed", "error", "default", "error"),
    )
    for series in reference["cycles"]:
        at = stack.at(series["level"], series["power_cap"])
        name = series["level"] + ("" if series["power_cap"] else ", no cap")
        heads = int(series["heads"])
        for length, cycles in zip(reference["lengths"], series["values"], strict=True):
            if quick and length > QUICK_LENGTH:
                continue
            ours = (
                event_cycles(at, heads, length, "attacc"),
                attention_cycles(at, heads, length, HEAD_DIM, compat="attacc"),
                event_cycles(at, heads, length, None),
            )
            shown = [text for value in ours for text in (str(value), f"{value / cycles - 1:+.2%}")]
            table.rows.append((name, str(heads), str(length), str(cycles), *shown))
    table.remarks.append(
        "Bar: 0 for 16 heads at bank level (one a channel), 0.6 % at bank-group and buffer level"
        " for L >= 512, 6 % for 32 heads, of event and closed, which follow the simulator. Default"
        " is a memory that works: tRP before a refresh, tRRD and tFAW at buffer level, V of its own"
        " for each head (see backends/pim/timing/event_model.py)."
    )
    return table


def _energy(reference: dict[str, float], stack: PimStack) -> ResultTable:
    table = ResultTable(
        "Energy of reading a byte of KV, pJ", ("read by", "reference", "ours", "error")
    )
    for name, expected in reference.items():
        found = array_pj_per_byte(stack.energy, name)
        row = (name, f"{expected:.2f}", f"{found:.2f}", f"{found / expected - 1:+.2%}")
        table.rows.append(row)
    return table
