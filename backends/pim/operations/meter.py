"""What launches on KV pages would cost on the modelled stack: commands, time, bytes and energy.

Each launch is added up by the kernel that also writes its commands (`kernels/pim_totals.py`), once
for all layers of a step, whose tables are equal. It computes no values.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.device import Array
from tokenloom.backends.kernels.native import Call
from tokenloom.backends.pim.energy import CommandSums, energy_of
from tokenloom.backends.pim.operations.native_kernels import bound
from tokenloom.backends.pim.operations.totals import (
    CYCLES,
    DONE,
    ELEMENTS,
    NUMBER,
    SIZE_BYTES,
    TotalsArrays,
)
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import UNIT_OPS, Op
from tokenloom.kernel_spec import KernelSpec

KEPT_LAUNCHES = 64
"""Launches whose costs are remembered: a step's, and those of a few around it."""


@dataclass(frozen=True)
class LaunchCost:
    """One launch on the modelled stack.

    `counts` [channel, command] are commands by `Op`, ACT the row switches, REF the refreshes;
    `cycles` [channel] when the last is done. `size_bytes` by kind of command; `energy_j` by
    component; `attended` counts tokens times query heads.
    """

    counts: NDArray[np.int64]
    cycles: NDArray[np.int64]
    size_bytes: Mapping[str, int]
    energy_j: Mapping[str, float]
    time_ns: float
    attended: int


class MeteredKernel:
    """A kernel that adds up launches, with the arrays it is launched on."""

    def __init__(
        self, stack: PimStack, spec: KernelSpec, tables: Sequence[Array], arguments: Sequence[Array]
    ):
        """`tables` are those of `arguments` that decide which commands there are."""
        self.stack, self.tables = stack, tuple(tables)
        self.arguments = tuple(arguments)
        self.spec = spec
        self._call: tuple[Call, TotalsArrays] | None = None

    def key(self, scalars: tuple[int, ...]) -> tuple[object, ...]:
        """Return what the cost of a launch follows from."""
        return self.spec, scalars, *(table.tobytes() for table in self.tables)

    def cost(self, scalars: tuple[int, ...]) -> LaunchCost:
        """Add up a launch on what the tables hold now."""
        if self._call is None:
            arrays = TotalsArrays(self.stack)
            inputs = [*self.arguments, *arrays.arguments]
            self._call = bound(self.spec, inputs, len(scalars)), arrays
        call, arrays = self._call
        arrays.reset()
        call(scalars)
        return cost_of(self.stack, arrays)


@dataclass
class PimMeter:
    """Sums over launches: time, energy by component, commands of units, and attended tokens.

    `attended` counts tokens times query heads.
    """

    launches: int = 0
    time_ns: float = 0.0
    energy_j: dict[str, float] = field(default_factory=dict[str, float])
    unit_commands: int = 0
    attended: int = 0
    _known: OrderedDict[tuple[object, ...], LaunchCost] = field(
        default_factory=OrderedDict[tuple[object, ...], LaunchCost], repr=False
    )

    def add(self, kernel: MeteredKernel, scalars: tuple[int, ...]) -> LaunchCost:
        """Count a launch and return what it costs; equal ones are added up once."""
        key = kernel.key(scalars)
        cost = self._known.get(key)
        if cost is None:
            cost = self._known[key] = kernel.cost(scalars)
            if len(self._known) > KEPT_LAUNCHES:
                self._known.popitem(last=False)
        self.launches += 1
        self.time_ns += cost.time_ns
        self.attended += cost.attended
        self.unit_commands += int(cost.counts[:, _UNIT_OPS].sum())
        for name, joules in cost.energy_j.items():
            self.energy_j[name] = self.energy_j.get(name, 0.0) + joules
        return cost


_UNIT_OPS = [int(op) for op in UNIT_OPS]
_MOVES = [int(op) for op in (Op.WR_GB, Op.MV_GB, Op.MV_SB, Op.GATHER)]


def cost_of(stack: PimStack, arrays: TotalsArrays) -> LaunchCost:
    """Return the cost that a launch added up to."""
    counts = arrays.counts[:, :, NUMBER].copy()
    sizes = arrays.counts[:, :, SIZE_BYTES].sum(axis=0)
    cycles = np.maximum(arrays.state[:, CYCLES], arrays.state[:, DONE]).astype(np.int64)
    whole = int(cycles.max(initial=0))
    unit_bytes = int(sizes[_UNIT_OPS].sum())
    busy = counts.sum(axis=1) > 0
    banks = 1
    if unit_bytes:
        banks = stack.pseudo_channels * stack.pim_sids * stack.bank_groups * stack.banks
    attended = int(arrays.counts[:, Op.SFM, ELEMENTS].sum())
    sums = CommandSums(
        opened_banks=int(counts[:, Op.ACT].sum()) * banks,
        unit_bytes=unit_bytes,
        moved_bytes=int(sizes[_MOVES].sum()),
        query_bytes=int(sizes[Op.WR_GB]),
        bus_bytes=int(sizes[Op.WR]),
        softmax_tokens=attended,
        refreshes=int(counts[:, Op.REF].sum()),
        cycles=whole,
        stacks=len(np.unique(np.flatnonzero(busy) // stack.channels)),
    )
    launch_ns = whole * stack.timing.cycle_ns + stack.launch_ns
    by_op = {op.name: int(sizes[op]) for op in Op if sizes[op]}
    energy = energy_of(stack, sums).components
    return LaunchCost(counts, cycles, by_op, energy, launch_ns, attended)
