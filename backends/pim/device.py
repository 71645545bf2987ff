"""The PIM device: KV pages in the banks of a memory stack, attention where they lie.

Its stack is simulated in this machine's memory: values and layout here, commands, time and energy
of each launch by `meter`, all from one function (`kernels/pim_attention.py`). Pools of KV pages
are float16 buffers of tier `pim`; other buffers of that tier lie interleaved over the banks. Tier
`dense` is the base die's memory: activations, page tables and rotary tables. It runs operations on
KV pages only: a processor runs the rest of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from tokenloom.backends.kernel_ops import LaunchChecks
from tokenloom.backends.kernels.build import OnBuild, build, symbol_of
from tokenloom.backends.kernels.native import Call, NativeFunction, TensorView
from tokenloom.backends.ledger import Ledger
from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.banks import BankArrays
from tokenloom.backends.pim.controller.merge import PartialAttention, Single
from tokenloom.backends.pim.geometry import StackGeometry
from tokenloom.backends.pim.layout import PAGE_TOKENS, KvLayout
from tokenloom.backends.pim.operations.attention_specs import (
    Heads,
    Lowering,
    append_spec,
    attention_spec,
)
from tokenloom.backends.pim.operations.meter import MeteredKernel, PimMeter
from tokenloom.backends.pim.operations.schedule import default_schedule
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.storage import (
    BankStorage,
    BaseDieArray,
    InterleavedRows,
    KvPool,
    Storage,
)
from tokenloom.kernel_spec import KernelSpec, Mode

MACHINE = "this-host-pim"
OPERATIONS = ("kv_append", "attention_prefill", "attention_decode")
"""What the stack runs: the operations on KV pages."""


class PimKernel(Kernel):
    """A loaded function of the banks, its checks, and its calls by the buffers bound to them."""

    def __init__(self, checks: LaunchChecks, function: NativeFunction):
        self.spec = checks.spec
        self.checks = checks
        self.function = function
        self.calls: dict[tuple[Argument, ...], _BoundCall] = {}


@dataclass(frozen=True)
class _BoundCall:
    """A launch's buffers, laid out; `leading` are the scalars before those of the operation.

    Attention also writes `sums` [rows, heads, 2]: the largest score and the sum of its weights.
    """

    call: Call
    max_rows: int
    leading: tuple[int, ...]
    sums: Array
    metered: MeteredKernel


class PimDevice(Device):
    """One HBM-PIM stack, functional; work is done when a call returns.

    In both modes a result depends on the row and its page table only, not on the batch nor on where
    its pages lie. DeviceError: `machine` has no PIM stack, or its memory does not fit here.
    """

    name = "pim"

    def __init__(
        self, mode: Mode = "exact", machine: str = MACHINE, on_build: OnBuild | None = None
    ):
        stack = load_machine(machine).pim
        if stack is None:
            raise DeviceError(f"pim: machine {machine} has no PIM stack")
        self.mode = mode
        self.stack: PimStack = stack
        self.on_build = on_build
        self.meter = PimMeter()
        self.stripe_pages = -(-stack.stripe_tokens // PAGE_TOKENS)
        self.banks = BankArrays(StackGeometry.of(stack))
        sizes = {"pim": stack.capacity_bytes, "dense": stack.base_die_bytes}
        lanes = stack.num_banks * stack.pim_sids // stack.sids * stack.unit.lanes
        self._ledger = Ledger(self.name, Capacity(sizes, lanes))
        self._kernels: dict[KernelSpec, PimKernel] = {}
        self._lock = Lock()

    def capacity(self) -> Capacity:
        """Return the bytes of the banks and of the base die, and the FP16 lanes of all banks."""
        return self._ledger.capacity

    def allocate(self, shape: Sequence[int], dtype: str, tier: str = "dense") -> Buffer:
        """Reserve memory; in the banks whole rows of all of them, which is what is counted."""
        sizes = tuple(int(size) for size in shape)
        if tier == "dense":
            buffer = self._ledger.reserve(sizes, dtype, tier)
            buffer.storage = BaseDieArray(sizes, dtype)
            return buffer
        self._ledger.free_bytes(tier)
        storage = self._bank_storage(sizes, dtype)
        size_bytes = storage.num_rows * self.banks.geometry.row_bytes
        buffer = self._ledger.reserve(sizes, dtype, tier, size_bytes)
        try:
            storage.attach()
        except DeviceError:
            self._ledger.release(buffer)
            raise
        buffer.storage = storage
        return buffer

    def free(self, buffer: Buffer) -> None:
        """Give the memory back."""
        self._ledger.check(buffer)
        if isinstance(buffer.storage, BankStorage):
            buffer.storage.free()
        self._ledger.release(buffer)
        for kernel in self._kernels.values():
            kernel.calls.clear()

    def write(self, buffer: Buffer, data: Array, start: int = 0) -> Event:
        """Copy rows in; pages go to their places in the banks."""
        self._ledger.check_write(buffer, data, start)
        _storage(buffer).write(np.arange(start, start + len(data)), data)
        return self._ledger.event()

    def read(self, buffer: Buffer, start: int = 0, stop: int | None = None) -> Array:
        """Return rows; pages are gathered out of the banks."""
        start, stop = self._ledger.check_rows(buffer, start, stop)
        return _storage(buffer).read(np.arange(start, stop))

    def gather_rows(self, buffer: Buffer, rows: Sequence[int]) -> Array:
        """Return the rows of the given indices, in their order: scattered pages in one call.

        What the controller's gather does for a processor that attends to pages in the banks.
        """
        index = np.asarray(rows, np.int64)
        self._ledger.check(buffer)
        if index.size and not (index.min() >= 0 and index.max() < buffer.shape[0]):
            raise DeviceError(f"pim: cannot gather rows beyond the {buffer.shape[0]} of a buffer")
        return _storage(buffer).read(index)

    def copy(self, source: Buffer, target: Buffer, rows: Sequence[tuple[int, int]]) -> Event:
        """Copy rows within the stack; all are read before any is written."""
        self._ledger.check_copy(source, target, rows)
        if rows:
            origins, targets = np.asarray(rows, np.int64).T
            _storage(target).write(targets, _storage(source).read(origins))
        return self._ledger.event()

    def prepare_weight(self, spec: KernelSpec, data: Array) -> Buffer:
        """Refuse: no operation of the stack has a weight."""
        raise self._unsupported(spec)

    def load(self, spec: KernelSpec) -> PimKernel:
        """Build the kernel for this stack. DeviceError: an operation that is not on KV pages."""
        self._ledger.check_open()
        if spec not in self._kernels:
            checks = LaunchChecks(spec, self._ledger, pool_dtype="float16")
            if spec.op not in OPERATIONS:
                raise self._unsupported(spec)
            if spec.dim("page_tokens") != PAGE_TOKENS:
                raise DeviceError(f"pim: {spec} must have pages of {PAGE_TOKENS} tokens")
            built = self._function_spec(spec)
            totals = self._function_spec(spec, "totals")
            path, _ = build([built, totals], on_build=self.on_build)
            function = NativeFunction(path, symbol_of(built), spec.op == "kv_append")
            self._kernels[spec] = PimKernel(checks, function)
        return self._kernels[spec]

    def launch(self, kernel: Kernel, arguments: Sequence[Argument]) -> Event:
        """Run the kernel on the banks now. Checks are made once for each set of buffers."""
        if not isinstance(kernel, PimKernel):
            raise DeviceError(f"pim: kernel {kernel.spec} was loaded by another device")
        count = kernel.checks.num_buffers
        buffers, scalars = tuple(arguments[:count]), arguments[count:]
        with self._lock:
            bound = kernel.calls.get(buffers)
            if bound is None:
                bound = kernel.calls[buffers] = self._bind(kernel, arguments)
            kernel.checks.check_scalars(scalars, bound.max_rows)
            given = (*bound.leading, *cast("Sequence[int]", scalars))
            bound.call(given)
            self.meter.add(bound.metered, given)
            return self._ledger.event()

    def attend_partial(self, kernel: Kernel, arguments: Sequence[Argument]) -> PartialAttention:
        """Run attention and return it in a form that merges with attention over other tokens.

        Of rows `first` to `first + n`: [n, heads], outputs [n, heads, head dimension].
        """
        if not (isinstance(kernel, PimKernel) and kernel.spec.op.startswith("attention_")):
            raise DeviceError(f"pim: {kernel.spec.op} has no partial results; attention has")
        self.launch(kernel, arguments)
        count = kernel.checks.num_buffers
        buffers = tuple(arguments[:count])
        first, rows = cast("Sequence[int]", arguments[count:])
        sums = kernel.calls[buffers].sums[first : first + rows]
        out = self.read(cast("Buffer", buffers[-1]), first, first + rows)
        total: Single = sums[..., 1].copy()
        maximum: Single = np.where(total > 0, sums[..., 0], -np.inf).astype(np.float32)
        output = out.reshape(*total.shape, kernel.spec.dim("head_dim"))
        return PartialAttention.of_normalized(maximum, total, output)

    def figures(self) -> Mapping[str, float]:
        """Return what all launches so far would have taken on the modelled stack."""
        return {
            "time_ms": self.meter.time_ns / 1e6,
            "energy_mj": sum(self.meter.energy_j.values()) * 1e3,
            "launches": self.meter.launches,
            "unit_commands": self.meter.unit_commands,
        }

    def wait(self, event: Event) -> None:
        """Check that the event is this device's; its work is done."""
        self._ledger.check_event(event)

    def close(self) -> None:
        """Drop all memory."""
        self._kernels.clear()
        self._ledger.close()
        self.banks.release()

    def _bank_storage(self, shape: tuple[int, ...], dtype: str) -> BankStorage:
        if KvPool.fits(shape, dtype):
            return KvPool(self.banks, shape, self.stripe_pages)
        return InterleavedRows(self.banks, shape, dtype)

    def _function_spec(self, spec: KernelSpec, lowering: Lowering = "values") -> KernelSpec:
        """Return the spec of a compiled function: the operation's sizes and the stack's."""
        heads = Heads.of(spec)
        KvLayout(self.banks.geometry, 0, heads.num_kv_heads, heads.head_dim, self.stripe_pages)
        if spec.op == "kv_append":
            return append_spec(self.stack, heads, lowering)
        schedule = default_schedule(self.stack, heads.head_dim, heads.per_kv)
        return attention_spec(self.stack, heads, schedule, lowering)

    def _bind(self, kernel: PimKernel, arguments: Sequence[Argument]) -> _BoundCall:
        checks = kernel.checks
        max_rows = checks.check_buffers(arguments)
        buffers = [cast("Buffer", argument) for argument in arguments[: checks.num_buffers]]
        named = dict(zip((a.name for a in checks.schema.buffers), buffers, strict=True))
        keys, values = self._bind_pools(kernel.spec, named["keys"], named["values"])
        arrays = [_kernel_array(buffer) for buffer in buffers]
        leading = (keys.layout.stripe,)
        sums = np.zeros((0, 0, 2), np.float32)
        if kernel.spec.op == "kv_append":
            leading = (*leading, keys.rows.start, values.rows.start)
            tables = [named["slots"]]
        else:
            sums = np.zeros((len(arrays[-1]), kernel.spec.dim("num_heads"), 2), np.float32)
            arrays.append(sums)
            tables = buffers[1:8]
        views = [TensorView(array) for array in arrays]
        call = Call(kernel.function, views, len(leading) + len(checks.schema.scalars))
        spec = self._function_spec(kernel.spec, "totals")
        held = [_kernel_array(buffer) for buffer in tables]
        metered = MeteredKernel(self.stack, spec, held, arrays)
        return _BoundCall(call, max_rows, leading, sums, metered)

    def _bind_pools(
        self, spec: KernelSpec, keys_buffer: Buffer, values_buffer: Buffer
    ) -> tuple[KvPool, KvPool]:
        """Fix what each pool holds, and return the two."""
        keys, values = _storage(keys_buffer), _storage(values_buffer)
        if not (isinstance(keys, KvPool) and isinstance(values, KvPool)):
            raise DeviceError(f"pim: {spec.op} wants its keys and values in tier pim")
        if keys.layout.num_pages != values.layout.num_pages:
            raise DeviceError(
                f"pim: {spec.op} wants keys and values of equally many pages,"
                f" got {keys.layout.num_pages} and {values.layout.num_pages}"
            )
        keys.bind("keys")
        values.bind("values")
        return keys, values

    def _unsupported(self, spec: KernelSpec) -> DeviceError:
        return DeviceError(f"pim: cannot run {spec.op}; a PIM stack runs {', '.join(OPERATIONS)}")


def _storage(buffer: Buffer) -> Storage:
    return cast("Storage", buffer.storage)


def _kernel_array(buffer: Buffer) -> Array:
    """Return what a kernel gets for a buffer: the banks of a pool, or the array itself."""
    storage = buffer.storage
    if isinstance(storage, KvPool):
        return storage.units
    if isinstance(storage, BaseDieArray):
        return storage.array
    raise DeviceError("pim: kernels take activations from tier dense, not from the banks")
