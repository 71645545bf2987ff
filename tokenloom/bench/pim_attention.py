"""Decode attention in the banks of a stack: compiled, and interpreted command by command."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.banks import BankArrays
from tokenloom.backends.pim.geometry import StackGeometry
from tokenloom.backends.pim.layout import KvLayout
from tokenloom.backends.pim.operations.attention_specs import Heads, attention_spec
from tokenloom.backends.pim.operations.kernel_stream import AttentionTables, Pools, launch_stream
from tokenloom.backends.pim.operations.native_kernels import bound
from tokenloom.backends.pim.operations.schedule import default_schedule
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import CommandStream, Op
from tokenloom.backends.pim.streams.interpreter import interpret
from tokenloom.backends.pim.streams.rows import with_rows
from tokenloom.backends.pim.streams.stack_state import StackState
from tokenloom.bench.report import Sample, measure

MACHINE = "this-host-pim"
PAGE_TOKENS = 16


@dataclass
class Decode:
    """One decode row of `heads` heads, each with KV of its own, over `length` tokens."""

    heads: int
    length: int
    head_dim: int

    @cached_property
    def stack(self) -> PimStack:
        """The stack, of the development machine."""
        stack = load_machine(MACHINE).pim
        if stack is None:
            raise ValueError(f"machine {MACHINE} has no stack")
        return stack

    @cached_property
    def layout(self) -> KvLayout:
        """Where keys lie, and values likewise behind them."""
        pages = -(-self.length // PAGE_TOKENS)
        geometry = StackGeometry.of(self.stack)
        return KvLayout(geometry, pages, self.heads, self.head_dim, stripe_pages=pages)

    @cached_property
    def banks(self) -> BankArrays:
        """The banks, with random keys and values."""
        banks = BankArrays(self.layout.geometry)
        random = np.random.default_rng(0)
        shape = (self.layout.num_pages, self.heads, PAGE_TOKENS, self.head_dim)
        for pool in self._pools(banks):
            data = random.standard_normal(shape, np.float32).astype(np.float16)
            self.layout.scatter(pool, np.arange(self.layout.num_pages), data)
        return banks

    def compiled(self, repeats: int) -> Sample:
        """Return the time of the compiled function."""
        shape = Heads(self.heads, self.heads, self.head_dim)
        spec = attention_spec(self.stack, shape, default_schedule(self.stack, self.head_dim, 1))
        tables = AttentionTables.contiguous(1, self.length)
        query = np.zeros((1, 3 * self.heads * self.head_dim), np.float32)
        query[0, : self.heads * self.head_dim] = 1.0
        rotary = np.ones((self.length, self.head_dim // 2), np.float32)
        pools = [self.layout.units(pool) for pool in self._pools(self.banks)]
        out = np.zeros((1, self.heads * self.head_dim), np.float32)
        sums = np.zeros((1, self.heads, 2), np.float32)
        arrays = [query, *tables.arrays, rotary, 0 * rotary, *pools, out, sums]
        call = bound(spec, arrays, num_scalars=3)
        return measure(lambda: call((self.layout.stripe, 0, 1)), repeats)

    def interpreted(self) -> Sample:
        """Return the time of the plain interpreter on the commands of the same launch, once."""
        shape = Heads(self.heads, self.heads, self.head_dim)
        schedule = default_schedule(self.stack, self.head_dim, 1)
        tables = AttentionTables.contiguous(1, self.length)
        pools = Pools(self.layout, 0, self.layout.num_rows)
        stream = launch_stream(self.stack, shape, schedule, tables, pools)
        kept = stream.records[stream.records["op"] != Op.ROT]  # queries are given rotated
        rows = with_rows(CommandStream("bench", MACHINE, kept), self.stack)
        elements = int(stream.records["address"].max()) + (1 << 14)
        state = StackState(self.stack, banks=self.banks, base_elements=elements)
        start = time.perf_counter()
        interpret(rows, state)
        return Sample((time.perf_counter() - start,))

    def _pools(self, banks: BankArrays) -> list[NDArray[Any]]:
        rows = self.layout.num_rows
        return [banks.lanes[:rows], banks.lanes[rows : 2 * rows]]
