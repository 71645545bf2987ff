"""The model executable: buffers, weights and one step program, as plain data.

`program` decodes it from a bundle's `exec` IR and `model_runner` runs it. It knows nothing of IR,
devices or requests.

One engine step holds decode rows and prefill rows in the same buffers: rows `0:num_decode` are
decode rows, the rest are prefill rows. What works on each row alone runs once over all of them;
attention is launched twice. So the program is one list of steps for both phases, and each step
says which rows it is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from tokenloom.kernel_spec import KernelSpec

Role = Literal["input", "state", "temp", "output"]
"""`input`: filled by the runner each step. `state`: lives from step to step (KV pools, cos, sin).
`temp`: meaningless between steps. `output`: read by the runner after a step (`logits`)."""

RowSet = Literal["all", "decode", "prefill", "logits"]
"""Which rows a step is for; the step is skipped where there are none."""

SIZES = ("rows", "logit_rows", "requests1", "table", "pages", "staged_pages")
"""Leading sizes known at run time: rows of a step, rows whose logits are needed, requests + 1,
page table entries of a step, pages of the KV pool, pages of a staging pool."""

INPUTS = (
    "tokens",
    "positions",
    "frame_positions",
    "row_requests",
    "table_offsets",
    "pages",
    "staged_pages",
    "frame_starts",
    "page_positions",
    "page_lengths",
    "slots",
    "logit_rows",
)
"""What the runner fills, all int32. `staged_pages` is `pages` renumbered into a staging pool."""

SCALARS = ("n", "first")
"""Run-time scalars of a launch: its number of rows, and the first of them."""


class ExecutableError(Exception):
    """The executable contradicts itself: a name without a declaration, or a wrong role."""


@dataclass(frozen=True)
class BufferDecl:
    """A buffer of `device`. The leading size of `shape` may be one of `SIZES`.

    An input that several devices read is declared once a device, as `positions@pim` beside
    `positions`: what stands before the `@` says what the runner writes.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    role: Role
    device: str = "host"

    @property
    def input_name(self) -> str:
        """The well-known name, without the device."""
        return self.name.partition("@")[0]


@dataclass(frozen=True)
class WeightDecl:
    """A weight by its canonical name, laid out for `kernel`; without a kernel it lies as stored."""

    name: str
    kernel: KernelSpec | None
    device: str = "host"


@dataclass(frozen=True)
class Launch:
    """One kernel launch.

    `arguments` are names of buffers, weights or `SCALARS`, or integer constants, in the order of
    the operation's entry in `kernel_ops.OPS`.
    """

    kernel: KernelSpec
    device: str
    arguments: tuple[str | int, ...]
    rows: RowSet = "all"


@dataclass(frozen=True)
class CopyStep:
    """Copy between two buffers, also of different devices and float widths.

    With `rows`, those rows go to the same rows of the target. With `pages`, the pages of the
    requests that have prefill rows go to pages 0, 1, ... of the target, a staging pool, in the
    order in which `staged_pages` numbers them: so prefill attention runs on the host while the
    pool lies in PIM memory.
    """

    source: str
    target: str
    rows: RowSet | Literal["pages"] = "all"


Step = Launch | CopyStep


@dataclass(frozen=True)
class ModelExecutable:
    """A model ready to run: `steps` is what one engine step does.

    `config` is the model's configuration as JSON data. `max_rows` is the most tokens a step can
    hold. Raises ExecutableError where a step names something that is not declared.
    """

    model: str
    config: Mapping[str, object]
    page_tokens: int
    max_rows: int
    buffers: tuple[BufferDecl, ...]
    weights: tuple[WeightDecl, ...]
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        for buffer in self.buffers:
            _check_buffer(buffer)
        known = {buffer.name for buffer in self.buffers} | {weight.name for weight in self.weights}
        for step in self.steps:
            for name in _names(step):
                if name not in known:
                    raise ExecutableError(f"{_label(step)} names {name!r}, which is not declared")
        if "logits" not in self.by_name or self.by_name["logits"].role != "output":
            raise ExecutableError("the executable has no output buffer named 'logits'")
        if "keys.0" not in self.by_name:
            raise ExecutableError("the executable has no KV pool named 'keys.0'")

    @cached_property
    def by_name(self) -> dict[str, BufferDecl]:
        """The buffers by name."""
        return {buffer.name: buffer for buffer in self.buffers}

    @property
    def kv_device(self) -> str:
        """The device that holds the KV pools."""
        return self.by_name["keys.0"].device

    @property
    def kv_dtype(self) -> str:
        """The element type of the KV pools."""
        return self.by_name["keys.0"].dtype

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of all devices that hold something, sorted."""
        return tuple(sorted({b.device for b in self.buffers} | {w.device for w in self.weights}))


def _check_buffer(buffer: BufferDecl) -> None:
    for index, size in enumerate(buffer.shape):
        if isinstance(size, str) and (index > 0 or size not in SIZES):
            raise ExecutableError(f"buffer {buffer.name!r}: unknown run-time size {size!r}")
    if buffer.role == "input" and buffer.input_name not in INPUTS:
        raise ExecutableError(f"buffer {buffer.name!r}: no input of that name is ever filled")


def _names(step: Step) -> list[str]:
    if isinstance(step, CopyStep):
        return [step.source, step.target]
    return [a for a in step.arguments if isinstance(a, str) and a not in SCALARS]


def _label(step: Step) -> str:
    if isinstance(step, CopyStep):
        return f"copy {step.source} -> {step.target}"
    return f"launch {step.kernel}"
