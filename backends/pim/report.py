"""What one stack takes for a kernel: cycles, time, commands, bytes and energy.

It joins what generates streams, what times them and what meters them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.pim.energy import EnergyReport, attention_energy, stream_energy
from tokenloom.backends.pim.fitting import check_attention, check_computes
from tokenloom.backends.pim.operations.gemv import Gemv
from tokenloom.backends.pim.operations.gemv_layout import GemvLayout, default_schedule
from tokenloom.backends.pim.operations.program import banks_for
from tokenloom.backends.pim.operations.specs import lanes_of
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.attacc_stream import attention_stream
from tokenloom.backends.pim.streams.commands import ALL, UNIT_OPS, CommandStream, Op
from tokenloom.backends.pim.streams.limits import MOVE_OPS
from tokenloom.backends.pim.streams.rows import with_rows
from tokenloom.backends.pim.streams.stack_state import Arithmetic
from tokenloom.backends.pim.timing.attention_shape import attention_counts
from tokenloom.backends.pim.timing.closed_form import attention_cycles
from tokenloom.backends.pim.timing.event_model import TimedStream, time_stream


@dataclass(frozen=True)
class StackReport:
    """What a kernel takes on one stack; counts and bytes are those of all its channels.

    `unit_bytes` is what units read and write in the banks, `moved_bytes` what crosses between units
    and base die. Commands that open and close rows are counted where each command was timed.
    """

    cycles: int
    time_ns: float
    commands: Mapping[str, int]
    unit_bytes: int
    moved_bytes: int
    energy: EnergyReport

    @property
    def unit_bytes_per_s(self) -> float:
        """The bandwidth that units have reached over the whole time."""
        return self.unit_bytes / (self.time_ns * 1e-9) if self.cycles else 0.0


@dataclass(frozen=True)
class AttentionQuestion:
    """Attention of `heads` query heads, which share `kv_heads`, over `length` tokens each."""

    heads: int
    kv_heads: int
    length: int
    head_dim: int
    element_bytes: int = 2

    def timed(self, stack: PimStack, machine: str = "") -> TimedStream:
        """Return its commands, timed on one stack. DeviceError: it does not fit."""
        self._check(stack)
        sizes = self.heads, self.length, self.head_dim, self.element_bytes
        shared = self.heads // self.kv_heads
        stream = attention_stream(stack, *sizes, heads_per_kv=shared, machine=machine)
        return time_stream(with_rows(stream, stack), stack)

    def in_closed_form(self, stack: PimStack) -> StackReport:
        """Return what it takes on one stack, no command timed. DeviceError: it does not fit."""
        self._check(stack)
        sizes = self.heads, self.length, self.head_dim, self.element_bytes
        shared = self.heads // self.kv_heads
        counts = attention_counts(stack, *sizes, heads_per_kv=shared)
        cycles = attention_cycles(stack, *sizes, heads_per_kv=shared)
        return StackReport(
            cycles,
            cycles * stack.timing.cycle_ns,
            {op.name: counts.commands[op.name] for op in Op if op.name in counts.commands},
            counts.unit_bytes,
            counts.moved_bytes,
            attention_energy(stack, *sizes, heads_per_kv=shared),
        )

    def _check(self, stack: PimStack) -> None:
        sizes = self.heads, self.kv_heads, self.length, self.head_dim
        check_attention(stack, *sizes, self.element_bytes)


def gemv_timed(stack: PimStack, rows: int, cols: int, arithmetic: Arithmetic) -> TimedStream:
    """Return the commands of a matrix of `rows` x `cols` times a vector, timed on one stack.

    DeviceError: it does not fit.
    """
    check_computes(stack)
    schedule = default_schedule(stack)
    layout = GemvLayout.of(stack, rows, cols, schedule, lanes_of(stack, arithmetic))
    banks = banks_for(stack, layout.check_rows(stores=arithmetic == "fp16"))
    stream = Gemv(layout, schedule, arithmetic, banks, first_row=0, machine="").stream()
    return time_stream(with_rows(stream, stack), stack)


def report(timed: TimedStream, stack: PimStack, element_bytes: int) -> StackReport:
    """Return what a timed stream takes on the stack it was timed for."""
    return StackReport(
        timed.cycles,
        timed.cycles * stack.timing.cycle_ns,
        command_counts(timed.stream, stack),
        _bytes_of(timed.stream, stack, UNIT_OPS),
        _bytes_of(timed.stream, stack, MOVE_OPS),
        stream_energy(timed, stack, element_bytes),
    )


def command_counts(stream: CommandStream, stack: PimStack) -> dict[str, int]:
    """Return how many commands of each kind all channels get together."""
    times, ops = _times(stream, stack), stream.records["op"]
    return {op.name: int(times[ops == op].sum()) for op in Op if np.any(ops == op)}


def _bytes_of(stream: CommandStream, stack: PimStack, ops: frozenset[Op]) -> int:
    sizes = stream.records["size_bytes"].astype(np.int64) * _times(stream, stack)
    return int(sizes[np.isin(stream.records["op"], list(ops))].sum())


def _times(stream: CommandStream, stack: PimStack) -> NDArray[np.int64]:
    """Return how many channels get each command."""
    return np.where(stream.records["channel"] == ALL, stack.stacks * stack.channels, 1)
