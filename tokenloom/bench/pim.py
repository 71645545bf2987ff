"""The HBM-PIM backend against what is known of it: cycles, systems, energy, values, speed.

Each table puts our figure beside its reference with the error. Cycles, energy and whole systems
are models; values and speed are measured on this machine.
"""

from __future__ import annotations

from tokenloom.bench import pim_cycles, pim_speed, pim_systems, pim_values
from tokenloom.bench.report import Report


def run(quick: bool = False) -> Report:
    """Return all tables; `quick` leaves out the long lengths and repeats less."""
    report = Report("pim")
    report.tables += pim_cycles.tables(quick)
    report.tables += pim_systems.tables()
    report.tables += pim_values.tables(quick)
    report.tables.append(pim_speed.table(quick))
    return report
