"""Attention in the stacks of a system, and what its processor does at the same time.

Cycles are those of the closed form; overlap and sharing are AttAcc's. It knows nothing of the
processor's layers but their costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import Literal

from tokenloom.backends.cost import DTYPE_BYTES, CostModel
from tokenloom.backends.device import DeviceError
from tokenloom.backends.machine import Machine
from tokenloom.backends.pim.energy import attention_energy
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.timing.closed_form import attention_cycles
from tokenloom.backends.system.description import NearMemory
from tokenloom.backends.system.gpu import Cost, Gpu
from tokenloom.backends.system.layers import Shard

_UNIT_DTYPES = ("float16", "int8")
_FEED_FORWARD_FLOPS = 2
"""Operations of the units for an element of a weight matrix that they read."""


class NearAttention:
    """Attention of one device's share of the heads in that device's stacks."""

    def __init__(
        self,
        machine: Machine,
        stack: PimStack,
        shard: Shard,
        dtype: str,
        compat: Literal["attacc"] | None,
    ):
        if dtype not in _UNIT_DTYPES:
            raise DeviceError(
                f"machine {machine.name}: its stacks compute in {' and '.join(_UNIT_DTYPES)}, "
                f"not in {dtype}"
            )
        self._machine = machine
        self._stack = stack
        self._shard = shard
        self._dtype = dtype
        self._compat: Literal["attacc"] | None = compat
        self._group = ceil(shard.heads / shard.kv_heads)

    def attention(self, requests: int, length: int) -> Cost:
        """Return the cost of one query of each request over `length` tokens.

        Heads are dealt to the stacks; the fullest one sets the time.
        """
        stack, shard = self._stack, self._shard
        element_bytes = DTYPE_BYTES[self._dtype]
        kv_heads = requests * shard.kv_heads
        heads = ceil(kv_heads / stack.stacks) * self._group
        cycles = attention_cycles(
            stack, heads, length, shard.head_dim, element_bytes, self._compat, self._group
        )
        # Of one head: what all of them spend is proportional, whatever stack they are in.
        head = attention_energy(
            stack, self._group, length, shard.head_dim, element_bytes, self._group
        )
        return Cost(cycles * stack.timing.cycle_ns, kv_heads * head.dynamic * 1e12)

    def shipping(self, rows: int, width: int) -> Cost:
        """Return the cost of `rows` of `width` elements from the processor's memory to the stacks.

        Nothing if that memory is the stacks' own.
        """
        tier = self._machine.processors[self._machine.compute_device].memory_tier
        if tier == "pim":
            return Cost()
        size_bytes = rows * width * DTYPE_BYTES[self._dtype]
        time_ns = CostModel(self._machine).copy_ns(tier, "pim", size_bytes)
        return Cost(time_ns, size_bytes * 8 * self._stack.energy.link_pj_per_bit)


def beside(attention: Cost, others: Sequence[Cost], heads: int) -> list[Cost]:
    """Return what shows of `others` when they run beside `attention`, head by head.

    The longest of all shows whole, the rest with the part of one of `heads` heads. Attention is
    always charged whole, so that a longer one has the rest of its time here. Source: AttAcc
    simulator, its pipelining in closed form.
    """
    longest = max(others, key=lambda cost: cost.time_ns)
    hidden_ns = attention.time_ns * (1 - 1 / heads)
    return [
        replace(cost, time_ns=cost.time_ns - hidden_ns)
        if cost is longest and cost.time_ns > attention.time_ns
        else replace(cost, time_ns=cost.time_ns / heads)
        for cost in others
    ]


def shared(costs: Sequence[Cost], gpu: Gpu, units_bytes_per_s: float, rows: int) -> Cost:
    """Return the cost of an MLP of which the stacks' units take a part; energy is not changed.

    Where memory bounds it, units add their bandwidth, spent once for each of `rows`; where
    computing does, their operations. Source: AttAcc simulator.
    """
    flops = units_bytes_per_s / gpu.element_bytes * _FEED_FORWARD_FLOPS
    of_compute = gpu.peak_flop_per_s / (gpu.peak_flop_per_s + flops)
    bandwidth = gpu.bandwidth_bytes_per_s
    of_memory = bandwidth / (bandwidth + units_bytes_per_s / rows)
    time_ns = sum(
        cost.time_ns * (of_compute if cost.compute_bound else of_memory) for cost in costs
    )
    return Cost(time_ns, sum(cost.energy_pj for cost in costs))


def units_bandwidth_bytes_per_s(stack: PimStack, near: NearMemory) -> float:
    """Return the bandwidth with which the units of all stacks read weights."""
    ratio = near.ratio[stack.level]
    return stack.bandwidth_bytes_per_s * (ratio.capped if stack.power_cap else ratio.uncapped)
