"""When a heterogeneous stack beats dedicated PIM stacks: two formulas of one decode step.

Weights cross the external bus of the stacks, keys and values are read near the banks where they
can be. Derived from what TokenStack's abstract says; the formulas are ours, not the paper's. It
knows nothing of machines: bandwidths are ratios.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """What one decode step reads: bytes of weights and of keys and values (any common unit)."""

    weights: float
    kv: float


def dedicated_time(step: Step, pim_share: float, gain: float) -> float:
    """Return the time of a step with a share of the stacks given to PIM, in bytes over bandwidth.

    Weights are read from the other stacks. The unit of time is a byte over the external bandwidth
    of all stacks; `gain` is a PIM stack's internal over its external bandwidth.
    ValueError: a share that leaves no stack of either kind.
    """
    if not 0 < pim_share < 1:
        raise ValueError(f"pim_share must lie between 0 and 1, got {pim_share}")
    return step.weights / (1 - pim_share) + step.kv / (pim_share * gain)


def heterogeneous_time(step: Step, pim_layers: float, gain: float, hits: float = 1.0) -> float:
    """Return the time of a step when a share of each stack's layers computes, in the same unit.

    All stacks serve weights. A share `hits` of the KV bytes lies in computing layers, the rest is
    read over the bus. ValueError: shares out of range.
    """
    if not 0 < pim_layers <= 1:
        raise ValueError(f"pim_layers must lie in (0, 1], got {pim_layers}")
    if not 0 <= hits <= 1:
        raise ValueError(f"hits must lie in [0, 1], got {hits}")
    near = hits * step.kv / (gain * pim_layers)
    return step.weights + near + (1 - hits) * step.kv


def speedup(
    step: Step, pim_share: float, gain: float, pim_layers: float, hits: float = 1.0
) -> float:
    """Return the dedicated design's time over the heterogeneous one's."""
    dedicated = dedicated_time(step, pim_share, gain)
    return dedicated / heterogeneous_time(step, pim_layers, gain, hits)
