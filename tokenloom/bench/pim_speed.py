"""How much faster the compiled PIM kernels are than the plain interpreter of their commands.

Both compute the same accumulators on the same banks; that their bits agree is checked, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.banks import BankArrays
from tokenloom.backends.pim.operations.elementwise import OPERANDS, Elementwise, Operation
from tokenloom.backends.pim.operations.gemv import Gemv
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.interpreter import interpret
from tokenloom.backends.pim.streams.stack_state import StackState
from tokenloom.bench.golden_gemv import INPUTS, ROWS, golden_gemv
from tokenloom.bench.pim_attention import Decode
from tokenloom.bench.report import ResultTable, Sample, measure

MACHINE = "hbm2-pim"
ELEMENTS = 1_000_000
BAR = 50
"""Times as fast as the interpreter that a compiled kernel must be."""


@dataclass(frozen=True)
class Speed:
    """A kernel's time, compiled and interpreted, and in how many values they differ."""

    kernel: str
    compiled: Sample
    interpreted: Sample
    differ: int

    @property
    def ratio(self) -> float:
        """How many times the compiled one is as fast, by the medians."""
        return self.interpreted.median_s / self.compiled.median_s


def table(quick: bool = False) -> ResultTable:
    """Return compiled against interpreted kernels; `quick` repeats less."""
    found = ResultTable(
        f"Compiled kernels against the plain interpreter of their commands, {MACHINE}",
        ("kernel", "compiled ms (spread)", "interpreted ms (spread)", "times", "values differ"),
    )
    found.rows += [row(speed) for speed in speeds(repeats=3 if quick else 9)]
    found.rows.append(_attention(512 if quick else 4096))
    found.remarks.append(
        f"Bar: at least {BAR} times; no value differs. Attention's values are compared in"
        " tests/unit/backends/pim/test_kernel_stream.py; its banks are those of this-host-pim."
    )
    return found


def row(speed: Speed) -> tuple[str, ...]:
    """Return a line of the table."""
    times = (
        f"{sample.median_s * 1e3:,.2f} ({sample.spread:.0%})"
        for sample in (speed.compiled, speed.interpreted)
    )
    return (speed.kernel, *times, f"{speed.ratio:,.0f}", f"{speed.differ:,}")


def _attention(length: int) -> tuple[str, ...]:
    """Return the line of a decode row of 32 heads over `length` tokens."""
    decode = Decode(heads=32, length=length, head_dim=128)
    compiled, interpreted = decode.compiled(9), decode.interpreted()
    *line, _ = row(Speed(f"attention, 32 heads, {length:,} tokens", compiled, interpreted, 0))
    return (*line, "")


def speeds(repeats: int) -> list[Speed]:
    """Measure the GEMV of the golden vectors and the element-wise operations."""
    stack = load_machine(MACHINE).pim
    if stack is None:
        raise ValueError(f"machine {MACHINE} has no stack")
    operations: list[Operation] = ["add", "mul", "relu"]
    found = [_gemv(stack, repeats)]
    return found + [_elementwise(stack, operation, repeats) for operation in operations]


def _gemv(stack: PimStack, repeats: int) -> Speed:
    golden = golden_gemv()
    loaded = Gemv.load(stack, golden.weights)
    run = loaded.bound(golden.inputs)
    compiled = measure(run, 10 * repeats)
    lanes = loaded.lanes_of(loaded.results)
    inputs, stream = loaded.layout.chunked(golden.inputs), loaded.stream()
    state = _state(stack, loaded.banks, inputs.size)
    state.base[:] = inputs.reshape(-1)
    loaded.results[...] = 0
    interpreted = measure(lambda: interpret(stream, state), repeats)
    differ = np.sum(lanes != loaded.lanes_of(loaded.results))
    return Speed(f"GEMV {ROWS} x {INPUTS}", compiled, interpreted, int(differ))


def _elementwise(stack: PimStack, operation: Operation, repeats: int) -> Speed:
    random = np.random.default_rng(0)
    operands: list[NDArray[np.float16]] = [
        random.standard_normal(ELEMENTS).astype(np.float16) for _ in range(OPERANDS[operation])
    ]
    loaded = Elementwise.load(stack, operation, operands)
    compiled = measure(loaded.bound(), 10 * repeats)
    values, stream = loaded.values, loaded.stream()
    state = _state(stack, loaded.banks, 0)
    loaded.arrays[-1][...] = 0
    interpreted = measure(lambda: interpret(stream, state), repeats)
    differ = int(np.sum(values != loaded.values))
    return Speed(f"{operation} of {ELEMENTS:,} elements", compiled, interpreted, differ)


def _state(stack: PimStack, banks: BankArrays, base_elements: int) -> StackState:
    """Return the interpreter's view of banks that have the rows of one kernel only."""
    rows = banks.geometry.size("row")
    return StackState(
        replace(stack, rows=rows, pim_rows=rows), base_elements=base_elements, banks=banks
    )
