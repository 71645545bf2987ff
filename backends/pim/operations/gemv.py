"""Matrix-vector products in the banks of a stack: values, and the commands that compute them.

Both come from one scheduled function (`kernels/pim_gemv.py`). It knows no times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.device import Array, DeviceError
from tokenloom.backends.host_memory import aligned_zeros
from tokenloom.backends.pim.banks import BankArrays
from tokenloom.backends.pim.operations.gemv_layout import GemvLayout, GemvSchedule, default_schedule
from tokenloom.backends.pim.operations.native_kernels import bound, compute, record
from tokenloom.backends.pim.operations.program import banks_for, program
from tokenloom.backends.pim.operations.specs import gemv_spec, lanes_of
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import CommandStream
from tokenloom.backends.pim.streams.stack_state import ARITHMETIC, Arithmetic

Values = NDArray[Any]


@dataclass(frozen=True)
class GemvResult:
    """`lanes` [outputs, lanes] are the accumulators: the partial sums of each output by lane.

    `sums` [outputs] adds the lanes one after the other in the type of the accumulators, as the base
    die does. `stream` has the commands that compute the lanes.
    """

    lanes: Values
    sums: Values
    stream: CommandStream


@dataclass(frozen=True)
class Gemv:
    """A product whose weights lie in the banks from `first_row` on, to be run on many vectors."""

    layout: GemvLayout
    schedule: GemvSchedule
    arithmetic: Arithmetic
    banks: BankArrays
    first_row: int
    machine: str

    @classmethod
    def load(
        cls,
        stack: PimStack,
        weights: Values,
        *,
        arithmetic: Arithmetic = "fp16",
        schedule: GemvSchedule | None = None,
        machine: str = "",
        banks: BankArrays | None = None,
    ) -> Gemv:
        """Write weights [outputs, inputs] to the banks; by default to banks just large enough.

        DeviceError: weights of another type than the units multiply, or that do not fit.
        """
        element = ARITHMETIC[arithmetic].element
        if arithmetic == "fused" or weights.ndim != 2 or weights.dtype != element:
            raise DeviceError(
                f"pim: weights {weights.dtype} {list(weights.shape)} for units of {arithmetic};"
                f" they multiply matrices of {element}"
            )
        schedule = schedule or default_schedule(stack)
        outputs, inputs = weights.shape
        layout = GemvLayout.of(stack, outputs, inputs, schedule, lanes_of(stack, arithmetic))
        rows = layout.check_rows(stores=arithmetic == "fp16")
        banks = banks or banks_for(stack, rows)
        taken = banks.allocate(rows)
        loaded = cls(layout, schedule, arithmetic, banks, taken.start, machine)
        layout.scatter(loaded.weights, weights)
        return loaded

    @property
    def weights(self) -> Values:
        """The rows of the banks that hold the weights."""
        return self._rows(self.first_row, self.layout.weight_rows)

    @property
    def results(self) -> Values:
        """The rows of the banks that FP16 accumulators are stored to."""
        start = self.first_row + self.layout.weight_rows
        return self._rows(start, self.layout.result_rows)

    def bound(self, vector: Values) -> Callable[[], None]:
        """Return what computes the product with a vector [inputs], to be called over and over.

        FP16 accumulators are then in `results`. DeviceError: the vector has another size.
        """
        spec = gemv_spec(self.layout, self.schedule, self.arithmetic)
        return partial(bound(spec, self.arrays(vector)), ())

    def run(self, vector: Values) -> GemvResult:
        """Return the product with a vector [inputs]. DeviceError: it has another size."""
        arrays = self.arrays(vector)
        compute(gemv_spec(self.layout, self.schedule, self.arithmetic), arrays)
        lanes = self.lanes_of(arrays[2])
        return GemvResult(lanes, _sum_lanes(lanes), self.stream())

    def stream(self) -> CommandStream:
        """Return the commands; they are the same for every vector."""
        spec = gemv_spec(self.layout, self.schedule, self.arithmetic, "pim_gemv_commands")
        arrays = self.arrays(np.zeros(self.layout.inputs, np.float32))
        words = record(spec, arrays)
        name = f"gemv {self.layout.outputs}x{self.layout.inputs} {self.arithmetic}"
        return program(name, self.machine, words, self.first_row)

    def arrays(self, vector: Values) -> list[Array]:
        """Return the function's arguments: weights, inputs, results."""
        if vector.shape != (self.layout.inputs,):
            raise DeviceError(
                f"pim: a vector {list(vector.shape)} for a product of {self.layout.outputs} x"
                f" {self.layout.inputs}; it must have {self.layout.inputs} elements"
            )
        inputs = self.layout.chunked(vector)
        results = self.results if self.arithmetic == "fp16" else self._accumulators("float32")
        return [self.weights, inputs, results]

    def lanes_of(self, results: Values) -> Values:
        """Return the accumulators [outputs, lanes] out of what the function wrote."""
        if self.arithmetic == "fp16":
            return self.layout.gather(results)
        return self.layout.outputs_of(results).astype(ARITHMETIC[self.arithmetic].register)

    def _accumulators(self, dtype: str) -> Array:
        groups = self.layout.output_tiles * self.layout.registers
        return aligned_zeros((groups, *self.layout.units, self.layout.lanes), dtype)

    def _rows(self, start: int, count: int) -> Values:
        element = ARITHMETIC[self.arithmetic].element
        rows = self.banks.lanes[start : start + count].view(element)
        return rows.reshape(self.layout.bank_shape(count))


def gemv(
    stack: PimStack,
    weights: Values,
    vector: Values,
    *,
    arithmetic: Arithmetic = "fp16",
    schedule: GemvSchedule | None = None,
    machine: str = "",
) -> GemvResult:
    """Return weights [outputs, inputs] times vector [inputs] of any sizes; see `Gemv`.

    `fp16` rounds after multiply and after add, `float32` keeps sums in FP32, `int8` multiplies INT8
    and adds INT32; in the latter two, lanes are exact up to 2**24 (they leave as FP32).
    """
    loaded = Gemv.load(stack, weights, arithmetic=arithmetic, schedule=schedule, machine=machine)
    return loaded.run(vector)


def _sum_lanes(lanes: Values) -> Values:
    """Return the lanes added in order, rounded to their type after each."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.zeros(len(lanes), lanes.dtype)
        for lane in range(lanes.shape[1]):
            total = total + lanes[:, lane]
    return total
