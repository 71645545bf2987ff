"""Small heterogeneous stacks for tests of the controller."""

from __future__ import annotations

from dataclasses import replace

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.stack import PimStack


def small_stack(rows: int = 8, channels: int = 2) -> PimStack:
    """One HBM3 stack of two SIDs, the first of which computes with half the rows."""
    return _small("this-host-pim", rows, channels, pim_sids=1)


def small_hbm4(machine: str = "hbm4-het-1of4", rows: int = 8, channels: int = 2) -> PimStack:
    """One HBM4 stack of four SIDs with few rows and channels."""
    return _small(machine, rows, channels)


def _small(machine: str, rows: int, channels: int, **changes: int) -> PimStack:
    stack = load_machine(machine).pim
    assert stack is not None
    share = channels / (stack.stacks * stack.channels)
    return replace(
        stack,
        stacks=1,
        channels=channels,
        rows=rows,
        pim_rows=rows // 2,
        bandwidth_bytes_per_s=stack.bandwidth_bytes_per_s * share,
        dma_bandwidth_bytes_per_s=stack.dma_bandwidth_bytes_per_s * share,
        **changes,
    )
