"""Experiments that `tokenloom bench NAME` runs: each prints a table and can write JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from tokenloom.bench.report import Report

EXPERIMENTS: Mapping[str, str] = {
    "compile": "how long compiling takes, and that it is linear in the number of asks",
    "engine": "prefill and decode tokens per second beside transformers, and exact beside fast",
    "pim": "cycles, energy, systems, values and speed of the HBM-PIM backend beside references",
}


def experiment(name: str) -> Callable[[bool], Report]:
    """Return the experiment `name` as a function of `quick` (fewer and smaller cases)."""
    if name not in EXPERIMENTS:
        raise KeyError(f"no experiment {name!r}; there are: {', '.join(EXPERIMENTS)}")
    return import_module(f"tokenloom.bench.{name}").run
