"""Runs a model executable: holds its buffers and weights, and does one step at a time.

It knows nothing of requests, tokens' meaning or scheduling.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.device import Argument, Array, Buffer, Device, Kernel
from tokenloom.models.registry import Model
from tokenloom.models.weights import Weights
from tokenloom.runtime.batch import StepBatch
from tokenloom.runtime.executable import (
    SCALARS,
    BufferDecl,
    CopyStep,
    ExecutableError,
    Launch,
    ModelExecutable,
    WeightDecl,
)

Range = tuple[int, int]
"""First row and number of rows."""


@dataclass(frozen=True)
class _BoundLaunch:
    """A launch with its buffers; the run-time scalars go to `scalars`, index and name."""

    device: Device
    kernel: Kernel
    rows: str
    arguments: list[Argument]
    scalars: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class _BoundCopy:
    source: Buffer
    target: Buffer
    rows: str


class ModelRunner:
    """The state of one model on its devices.

    `max_batch` bounds the requests of a step, `num_pages` is the size of the KV pool; a request has
    at most `context_pages`. One thread at a time. Raises DeviceError where memory does not suffice
    or a kernel is unknown.
    """

    def __init__(
        self,
        model: Model,
        executable: ModelExecutable,
        devices: Mapping[str, Device],
        *,
        max_batch: int,
        num_pages: int,
    ):
        missing = [name for name in executable.devices if name not in devices]
        if missing:
            raise ExecutableError(f"the executable needs device {missing[0]!r}, which is not open")
        self.executable = executable
        self._model = model
        self._devices = devices
        # A run has pages of its own, so a context with runs in it may take more than its tokens do.
        self.context_pages = 2 * -(-model.config.max_context // executable.page_tokens)
        self._sizes = {
            "rows": executable.max_rows,
            "logit_rows": max_batch,
            "requests1": max_batch + 1,
            "table": max_batch * self.context_pages,
            "pages": num_pages,
            "staged_pages": num_pages,
        }
        self._buffers: dict[str, Buffer] = {}
        for declared in executable.buffers:
            self._buffers[declared.name] = self._allocate(declared)
        for weight, data in _read_ahead(model.weights(), executable.weights):
            self._buffers[weight.name] = self._place_weight(weight, data)
        self._steps = [self._bind(step) for step in executable.steps]
        self._inputs = [
            (b.input_name, devices[b.device], self._buffers[b.name])
            for b in executable.buffers
            if b.role == "input"
        ]
        self._pools = [
            self._buffers[b.name]
            for b in executable.buffers
            if b.role == "state" and b.shape[0] == "pages"
        ]
        self.needs_staging = any(name == "staged_pages" for name, _, _ in self._inputs)

    def run(self, batch: StepBatch) -> NDArray[np.float32]:
        """Do one step; return the logits, float32[num_logits, vocab]."""
        if batch.copies:
            for pool in self._pools:
                self._devices[pool.device].copy(pool, pool, batch.copies)
        for name, device, buffer in self._inputs:
            data = batch.inputs[name]
            if len(data):
                device.write(buffer, data)
        ranges: dict[str, Range] = {
            "all": (0, batch.num_rows),
            "decode": (0, batch.num_decode),
            "prefill": (batch.num_decode, batch.num_rows - batch.num_decode),
            "logits": (0, batch.num_logits),
            "pages": (0, len(batch.staged)),
        }
        for step in self._steps:
            rows = ranges[step.rows]
            if rows[1] == 0:
                continue
            if isinstance(step, _BoundLaunch):
                _launch(step, rows)
            elif step.rows == "pages":
                self._stage(step, batch)
            else:
                self._copy_rows(step, rows)
        logits = self._buffers["logits"]
        return self._devices[logits.device].read(logits, 0, batch.num_logits)

    def close(self) -> None:
        """Give all memory back to the devices, which stay open."""
        for buffer in self._buffers.values():
            self._devices[buffer.device].free(buffer)
        self._buffers.clear()

    def _allocate(self, declared: BufferDecl) -> Buffer:
        shape = tuple(self._sizes[s] if isinstance(s, str) else s for s in declared.shape)
        device = self._devices[declared.device]
        # KV pools lie in the memory that gives the device its name, where it has one.
        tier = declared.device if declared.device in device.capacity().size_bytes else "dense"
        is_pool = declared.role == "state" and declared.shape[0] == "pages"
        buffer = device.allocate(shape, declared.dtype, tier if is_pool else "dense")
        if declared.input_name in ("cos", "sin"):
            cos, sin = self._model.config.rope_tables(shape[0])
            device.write(buffer, cos if declared.input_name == "cos" else sin)
        return buffer

    def _place_weight(self, weight: WeightDecl, data: Array) -> Buffer:
        device = self._devices[weight.device]
        if weight.kernel is not None:
            return device.prepare_weight(weight.kernel, data)
        buffer = device.allocate(data.shape, str(data.dtype))
        device.write(buffer, data)
        return buffer

    def _bind(self, step: Launch | CopyStep) -> _BoundLaunch | _BoundCopy:
        if isinstance(step, CopyStep):
            return _BoundCopy(self._buffers[step.source], self._buffers[step.target], step.rows)
        device = self._devices[step.device]
        scalars = [(i, a) for i, a in enumerate(step.arguments) if a in SCALARS]
        arguments: list[Argument] = [
            0 if a in SCALARS else self._buffers[a] if isinstance(a, str) else a
            for a in step.arguments
        ]
        names = tuple((index, str(name)) for index, name in scalars)
        return _BoundLaunch(device, device.load(step.kernel), step.rows, arguments, names)

    def _copy_rows(self, step: _BoundCopy, rows: Range) -> None:
        first, end = rows[0], rows[0] + rows[1]
        self._transfer(step, (first, end), first)

    def _stage(self, step: _BoundCopy, batch: StepBatch) -> None:
        """Gather pages into the staging pool, a contiguous span at a time."""
        pages = batch.staged
        breaks = np.flatnonzero(np.diff(pages) != 1) + 1
        starts = [0, *breaks.tolist()]
        for start, end in zip(starts, [*starts[1:], len(pages)], strict=True):
            first = int(pages[start])
            self._transfer(step, (first, first + end - start), start)

    def _transfer(self, step: _BoundCopy, source_rows: Range, target_row: int) -> None:
        source, target = step.source, step.target
        first, end = source_rows
        if source.device == target.device and source.dtype == target.dtype:
            pairs = [(row, target_row + row - first) for row in range(first, end)]
            self._devices[source.device].copy(source, target, pairs)
            return
        data = self._devices[source.device].read(source, first, end)
        self._devices[target.device].write(
            target, data.astype(target.dtype, copy=False), target_row
        )


def _read_ahead(
    weights: Weights, declared: Sequence[WeightDecl]
) -> Iterator[tuple[WeightDecl, Array]]:
    """Read each weight while the one before it is prepared; no more than two are held."""
    with ThreadPoolExecutor(1, "weights") as reader:
        coming: deque[tuple[WeightDecl, Future[Array]]] = deque()
        for weight in declared:
            name = weight.name.partition("@")[0]
            coming.append((weight, reader.submit(weights.get, name)))
            if len(coming) == 2:
                before, data = coming.popleft()
                yield before, data.result()
        for weight, data in coming:
            yield weight, data.result()


def _launch(step: _BoundLaunch, rows: Range) -> None:
    for index, name in step.scalars:
        step.arguments[index] = rows[0] if name == "first" else rows[1]
    step.device.launch(step.kernel, step.arguments)
