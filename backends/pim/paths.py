"""What it costs to move a byte inside a stack: energy of each way, time on the TSV bus.

Numbers come from the machine description. It knows nothing of commands and blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tokenloom.backends.pim.stack import Energy, PimStack

_PARTS = ("activate", "cell", "bank_to_group", "group_to_io", "tsv", "interposer")
"""The parts of the way from a bank's cells to the processor, in order."""
_ENDS: Mapping[str, int] = {"bank": 2, "bank-group": 3, "buffer": 5, "processor": 6}
"""How many of the parts a byte passes to units at a level, and to the processor."""


def array_pj_per_byte(energy: Energy, end: str) -> float:
    """Return the energy between cells and units at a level, or `processor`, rows fully used.

    The same for reading and writing; from and to the base die is `buffer` (fine-grained DRAM,
    MICRO'17, as in the AttAcc simulator).
    """
    return _pj_per_byte(energy, _PARTS[: _ENDS[end]])


def units_pj_per_byte(energy: Energy, level: str) -> float:
    """Return the energy between the base die and the operand buffers of units at a level."""
    return _pj_per_byte(energy, _PARTS[_ENDS[level] : _ENDS["buffer"]])


def one_stack(stack: PimStack) -> PimStack:
    """Return the description of one stack out of several alike."""
    return replace(
        stack,
        stacks=1,
        bandwidth_bytes_per_s=stack.bandwidth_bytes_per_s / stack.stacks,
        dma_bandwidth_bytes_per_s=stack.dma_bandwidth_bytes_per_s / stack.stacks,
    )


def bus_bytes_per_s(stack: PimStack) -> float:
    """Return what the TSV buses of all stacks carry for migrations, both crossings counted.

    A migrated byte crosses its bus twice, to the base die and back.
    """
    return 2 * stack.dma_bandwidth_bytes_per_s


def _pj_per_byte(energy: Energy, parts: tuple[str, ...]) -> float:
    return 8 * sum(getattr(energy, f"{part}_pj_per_bit") for part in parts)
