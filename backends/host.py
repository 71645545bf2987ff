"""The CPU as a device: buffers are arrays, kernels are compiled TIR.

Mode `fast` differs from `exact` in `linear` and `linear_bias` only, and where the CPU has
AVX512-BF16: there weights and inputs are bfloat16 (see `kernels/linear_bf16`).

A launch runs at once and on all cores, so an event is done when it is returned. It knows nothing of
models, pages or requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import cast

import numpy as np

from tokenloom.backends.device import (
    Argument,
    Array,
    Buffer,
    Capacity,
    Device,
    DeviceError,
    Event,
    Kernel,
)
from tokenloom.backends.host_memory import Slabs, aligned_zeros, available_bytes
from tokenloom.backends.kernel_ops import LaunchChecks
from tokenloom.backends.kernels.build import OnBuild, build, symbol_of
from tokenloom.backends.kernels.cpu import this_cpu
from tokenloom.backends.kernels.native import Call, NativeFunction, TensorView
from tokenloom.backends.kernels.packing import tile_for, uses_bfloat16
from tokenloom.backends.ledger import Ledger
from tokenloom.kernel_spec import KernelSpec, Mode

LONG_OPS = frozenset({"linear", "linear_bias", "attention_prefill", "attention_decode"})
"""Operations that let other Python threads run meanwhile."""

LANE_OPS = {"hidden": 16, "ffn": 16, "head_dim": 16, "page_tokens": 16}
"""Dimensions that must be whole vectors."""


class HostStorage:
    """What a buffer of this device holds. `packing` says how a weight is packed, if it is."""

    def __init__(self, array: Array, packing: str | None = None):
        self.array = array
        self.view = TensorView(array)
        self.packing = packing


@dataclass(frozen=True)
class Bound:
    """A call with its checked buffers, and the rows these allow.

    It keeps the buffers, so that their `id`s, by which it is found, stay theirs.
    """

    call: Call
    max_rows: int
    buffers: tuple[Argument, ...]


class HostKernel(Kernel):
    """A loaded function, and its calls by the identities of the buffers they were bound to."""

    def __init__(self, checks: LaunchChecks, function: NativeFunction):
        self.spec = checks.spec
        self.checks = checks
        self.function = function
        self.calls: dict[tuple[int, ...], Bound] = {}


class HostDevice(Device):
    """Runs kernels on the CPU. `on_build` is told of each kernel that has to be compiled first.

    Tier `dense` is what kernels read; `host` is where contexts wait. Both are the same memory, and
    split at opening what is available then.
    """

    name = "host"

    def __init__(
        self,
        mode: Mode = "exact",
        size_bytes: Mapping[str, int] | None = None,
        on_build: OnBuild | None = None,
    ):
        self.mode = mode
        self.on_build = on_build
        if size_bytes is None:
            available = available_bytes()
            size_bytes = {"dense": available * 6 // 10, "host": available * 3 // 10}
        self._ledger = Ledger(self.name, Capacity(dict(size_bytes), this_cpu().num_cores))
        self._kernels: dict[KernelSpec, HostKernel] = {}
        self._tile = tile_for(this_cpu())
        self._slabs = Slabs()
        self._lock = Lock()

    def capacity(self) -> Capacity:
        """Return the memory split at opening, and the number of cores."""
        return self._ledger.capacity

    def allocate(self, shape: Sequence[int], dtype: str, tier: str = "dense") -> Buffer:
        """Reserve zeroed memory, aligned for vectors."""
        buffer = self._ledger.reserve(shape, dtype, tier)
        buffer.storage = HostStorage(aligned_zeros(buffer.shape, dtype))
        return buffer

    def free(self, buffer: Buffer) -> None:
        """Give the memory back."""
        self._ledger.release(buffer)
        for kernel in self._kernels.values():
            kernel.calls.clear()

    def write(self, buffer: Buffer, data: Array, start: int = 0) -> Event:
        """Copy rows in."""
        self._ledger.check_write(buffer, data, start)
        self._rows(buffer)[start : start + len(data)] = data
        return self._ledger.event()

    def read(self, buffer: Buffer, start: int = 0, stop: int | None = None) -> Array:
        """Return a copy of rows; a packed weight cannot be read back."""
        start, stop = self._ledger.check_rows(buffer, start, stop)
        return self._rows(buffer)[start:stop].copy()

    def copy(self, source: Buffer, target: Buffer, rows: Sequence[tuple[int, int]]) -> Event:
        """Copy rows; all are read before any is written."""
        self._ledger.check_copy(source, target, rows)
        if rows:
            origins, destinations = (list(indices) for indices in zip(*rows, strict=True))
            self._rows(target)[destinations] = self._rows(source)[origins]
        return self._ledger.event()

    def prepare_weight(self, spec: KernelSpec, data: Array) -> Buffer:
        """Pack a matrix for `linear` and `linear_bias`; other weights stay as they are."""
        LaunchChecks(spec, self._ledger).check_weight(data)
        if spec.op not in ("linear", "linear_bias"):
            buffer = self.allocate(data.shape, "float32")
            self.write(buffer, data)
            return buffer
        outputs, inputs = data.shape
        in_pairs = uses_bfloat16(spec, this_cpu())
        sizes = self._tile.pair_shape if in_pairs else self._tile.packed_shape
        shape = sizes(outputs, inputs)
        size_bytes = int(np.prod(shape, dtype=np.int64)) * 4
        buffer = self._ledger.reserve(data.shape, "float32", "dense", size_bytes)
        packed = self._slabs.zeros(shape, "int32" if in_pairs else "float32")
        (self._tile.pack_pairs if in_pairs else self._tile.pack)(np.ascontiguousarray(data), packed)
        buffer.storage = HostStorage(packed, packing=_packing(spec))
        return buffer

    def load(self, spec: KernelSpec) -> HostKernel:
        """Build the kernel if the cache lacks it, and open its library."""
        self._ledger.check_open()
        if spec not in self._kernels:
            checks = LaunchChecks(spec, self._ledger)
            _check_vectors(spec)
            same = spec if uses_bfloat16(spec, this_cpu()) else replace(spec, mode="exact")
            path = build([same], on_build=self.on_build)[0]
            function = NativeFunction(path, symbol_of(same), spec.op not in LONG_OPS)
            self._kernels[spec] = HostKernel(checks, function)
        return self._kernels[spec]

    def load_all(self, specs: Iterable[KernelSpec]) -> list[HostKernel]:
        """Load several kernels."""
        return [self.load(spec) for spec in specs]

    def launch(self, kernel: Kernel, arguments: Sequence[Argument]) -> Event:
        """Run the kernel now. Checks are made once for each set of buffers."""
        if not isinstance(kernel, HostKernel):
            raise DeviceError(f"host: kernel {kernel.spec} was loaded by another device")
        checks = kernel.checks
        key = tuple(map(id, arguments[: checks.num_buffers]))
        with self._lock:
            bound = kernel.calls.get(key)
            if bound is None:
                bound = kernel.calls[key] = self._bind(kernel, arguments)
            scalars = arguments[checks.num_buffers :]
            checks.check_scalars(scalars, bound.max_rows)
            bound.call(cast("Sequence[int]", scalars))
            return self._ledger.event()

    def wait(self, event: Event) -> None:
        """Check the event; the work was done before it was returned."""
        self._ledger.check_event(event)

    def close(self) -> None:
        """Free all memory."""
        for kernel in self._kernels.values():
            kernel.calls.clear()
        self._kernels.clear()
        self._ledger.close()

    def _bind(self, kernel: HostKernel, arguments: Sequence[Argument]) -> Bound:
        max_rows = kernel.checks.check_buffers(arguments)
        views: list[TensorView] = []
        for schema, buffer in zip(kernel.checks.schema.buffers, arguments, strict=False):
            storage = cast("HostStorage", cast("Buffer", buffer).storage)
            wants = _packing(kernel.spec) if schema.kind == "weight" else None
            if storage.packing != wants:
                raise DeviceError(
                    f"host: kernel {kernel.spec} reads {schema.name} {wants or 'not packed'},"
                    f" got it {storage.packing or 'not packed'}; weights come from"
                    " prepare_weight of the kernel that reads them"
                )
            views.append(storage.view)
        call = Call(kernel.function, views, len(kernel.checks.schema.scalars))
        return Bound(call, max_rows, tuple(arguments[: kernel.checks.num_buffers]))

    def _rows(self, buffer: Buffer) -> Array:
        storage = cast("HostStorage", buffer.storage)
        if storage.packing:
            raise DeviceError("host: a packed weight can be neither read, written nor copied")
        return storage.array


def _packing(spec: KernelSpec) -> str | None:
    """Return how the kernel's weight is packed; None for as it is."""
    if spec.op not in ("linear", "linear_bias"):
        return None
    return "in bfloat16 pairs" if uses_bfloat16(spec, this_cpu()) else "in float32 tiles"


def _check_vectors(spec: KernelSpec) -> None:
    for name, size in spec.dims:
        if size % LANE_OPS.get(name, 1):
            raise DeviceError(
                f"host: {spec.op} needs {name} to be a multiple of {LANE_OPS[name]}, got {size}"
            )
