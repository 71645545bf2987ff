"""The operations that devices run: dimensions, constants and arguments of each, and their checks.

Launch arguments are checked here, once for all devices. It knows nothing of how an operation is
computed, and imports no compiler. What index buffers hold (tokens, slots, pages,
positions) is the caller's to keep in range: a launch does not read them to check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

from tokenloom.backends.device import Argument, Array, Buffer, DeviceError
from tokenloom.backends.ledger import Ledger
from tokenloom.kernel_spec import MODES, KernelSpec

Kind = Literal["input", "output", "inout", "weight", "pool", "scalar"]

ROWS = "n"
"""The leading axis that a launch uses up to its number of rows; the buffer may have more."""

ANY = "*"
"""An axis whose size the operation does not fix."""

DERIVED: Mapping[str, Callable[[Mapping[str, int]], int]] = {
    "heads_width": lambda d: d["num_heads"] * d["head_dim"],
    "qkv_width": lambda d: (d["num_heads"] + 2 * d["num_kv_heads"]) * d["head_dim"],
    "gate_up_width": lambda d: 2 * d["ffn"],
    "half_dim": lambda d: d["head_dim"] // 2,
}
"""Axis sizes that follow from an operation's dimensions."""


@dataclass(frozen=True)
class ArgumentSchema:
    """One argument. `shape` holds names of dims, of DERIVED sizes, ROWS or ANY.

    `weight` is what `Device.prepare_weight` returned for the kernel; `pool` is a KV pool, read and
    written, whose dtype is the device's choice; `scalar` is a Python int.
    """

    name: str
    kind: Kind
    dtype: str
    shape: tuple[str, ...] = ()


@dataclass(frozen=True)
class OpSchema:
    """One operation: what is compiled in (`dims`, `attrs`) and what a launch passes, in order.

    Scalars come last, and the number of rows is the last of them.
    """

    op: str
    dims: tuple[str, ...]
    attrs: tuple[str, ...]
    arguments: tuple[ArgumentSchema, ...]

    @cached_property
    def buffers(self) -> tuple[ArgumentSchema, ...]:
        """The arguments that are buffers."""
        return tuple(a for a in self.arguments if a.kind != "scalar")

    @cached_property
    def scalars(self) -> tuple[ArgumentSchema, ...]:
        """The arguments that are numbers: `n`, before it `first` where rows have an origin."""
        return tuple(a for a in self.arguments if a.kind == "scalar")


def _argument(kind: Kind, name: str, *shape: str, dtype: str = "float32") -> ArgumentSchema:
    return ArgumentSchema(name, kind, dtype, shape)


def _op(
    op: str, dims: str, arguments: Sequence[ArgumentSchema], attrs: tuple[str, ...] = ()
) -> OpSchema:
    return OpSchema(op, tuple(dims.split()), attrs, tuple(arguments))


_N = _argument("scalar", "n", dtype="int32")
_FIRST = _argument("scalar", "first", dtype="int32")
_HEADS = "num_heads num_kv_heads head_dim"
_QKV = _argument("input", "qkv", ROWS, "qkv_width")
_TABLES = (
    _argument("input", "cos", ANY, "half_dim"),
    _argument("input", "sin", ANY, "half_dim"),
)
_POOLS = (
    _argument("pool", "keys", ANY, "num_kv_heads", "head_dim", "page_tokens"),
    _argument("pool", "values", ANY, "num_kv_heads", "page_tokens", "head_dim"),
)
_ATTENTION = (
    _QKV,
    _argument("input", "positions", ROWS, dtype="int32"),
    _argument("input", "row_requests", ROWS, dtype="int32"),
    _argument("input", "table_offsets", ANY, dtype="int32"),
    _argument("input", "pages", ANY, dtype="int32"),
    _argument("input", "frame_starts", ANY, dtype="int32"),
    _argument("input", "page_positions", ANY, dtype="int32"),
    _argument("input", "page_lengths", ANY, dtype="int32"),
    *_TABLES,
    *_POOLS,
    _argument("output", "out", ROWS, "heads_width"),
    _FIRST,
    _N,
)

_SCHEMAS = (
    _op(
        "embed",
        "vocab hidden",
        [
            _argument("input", "tokens", ROWS, dtype="int32"),
            _argument("weight", "weight", "vocab", "hidden"),
            _argument("output", "out", ROWS, "hidden"),
            _N,
        ],
    ),
    _op(
        "rms_norm",
        "hidden",
        [
            _argument("input", "x", ROWS, "hidden"),
            _argument("weight", "weight", "hidden"),
            _argument("output", "out", ROWS, "hidden"),
            _N,
        ],
        attrs=("eps",),
    ),
    _op(
        "linear",
        "inputs outputs",
        [
            _argument("input", "x", ROWS, "inputs"),
            _argument("weight", "weight", "outputs", "inputs"),
            _argument("output", "out", ROWS, "outputs"),
            _N,
        ],
    ),
    _op(
        "linear_bias",
        "inputs outputs",
        [
            _argument("input", "x", ROWS, "inputs"),
            _argument("weight", "weight", "outputs", "inputs"),
            _argument("input", "bias", "outputs"),
            _argument("output", "out", ROWS, "outputs"),
            _N,
        ],
    ),
    _op(
        "head_norm",
        _HEADS,
        [
            _argument("inout", "qkv", ROWS, "qkv_width"),
            _argument("input", "q_norm", "head_dim"),
            _argument("input", "k_norm", "head_dim"),
            _N,
        ],
        attrs=("eps",),
    ),
    _op(
        "kv_append",
        f"{_HEADS} page_tokens",
        [
            _QKV,
            _argument("input", "frame_positions", ROWS, dtype="int32"),
            _argument("input", "slots", ROWS, dtype="int32"),
            *_TABLES,
            *_POOLS,
            _N,
        ],
    ),
    _op("attention_prefill", f"{_HEADS} page_tokens", _ATTENTION),
    _op("attention_decode", f"{_HEADS} page_tokens", _ATTENTION),
    _op(
        "silu_mul",
        "ffn",
        [
            _argument("input", "gate_up", ROWS, "gate_up_width"),
            _argument("output", "out", ROWS, "ffn"),
            _N,
        ],
    ),
    _op(
        "add",
        "hidden",
        [
            _argument("inout", "x", ROWS, "hidden"),
            _argument("input", "y", ROWS, "hidden"),
            _N,
        ],
    ),
    _op(
        "take_rows",
        "hidden",
        [
            _argument("input", "x", ANY, "hidden"),
            _argument("input", "rows", ROWS, dtype="int32"),
            _argument("output", "out", ROWS, "hidden"),
            _N,
        ],
    ),
)

OPS: Mapping[str, OpSchema] = {schema.op: schema for schema in _SCHEMAS}
"""All operations by name."""


def schema_of(spec: KernelSpec, device: str) -> OpSchema:
    """Return the operation of `spec`; a spec that does not fit one of OPS is a DeviceError."""
    schema = OPS.get(spec.op)
    if schema is None:
        raise DeviceError(f"{device}: no operation {spec.op!r}; there are {', '.join(OPS)}")
    dims = dict(spec.dims)
    for kind, given, wanted in (
        ("dimensions", set(dims), set(schema.dims)),
        ("attributes", {name for name, _ in spec.attrs}, set(schema.attrs)),
    ):
        if given != wanted:
            names = [", ".join(sorted(side)) or "none" for side in (wanted, given)]
            raise DeviceError(f"{device}: {spec.op} has {kind} {names[0]}; the spec has {names[1]}")
    if any(size <= 0 for size in dims.values()):
        raise DeviceError(f"{device}: {spec} has a dimension that is not positive")
    if "head_dim" in dims and (dims["head_dim"] % 2 or dims["num_heads"] % dims["num_kv_heads"]):
        raise DeviceError(
            f"{device}: {spec} needs an even head_dim, and num_heads a multiple of num_kv_heads"
        )
    if spec.device != device or spec.mode not in MODES or spec.dtype != "float32":
        raise DeviceError(f"{device}: cannot load {spec}")
    return schema


def argument_shape(spec: KernelSpec, argument: ArgumentSchema) -> tuple[int | None, ...]:
    """Return the sizes of an argument's axes for `spec`; None for ROWS and ANY."""
    dims = dict(spec.dims)

    def size(axis: str) -> int | None:
        if axis in (ROWS, ANY):
            return None
        return DERIVED[axis](dims) if axis in DERIVED else dims[axis]

    return tuple(size(axis) for axis in argument.shape)


class LaunchChecks:
    """The checks of one kernel's launches, made once with `Ledger` of the device that runs them."""

    def __init__(self, spec: KernelSpec, ledger: Ledger, pool_dtype: str = "float32"):
        self.spec = spec
        self.schema = schema_of(spec, ledger.device)
        self.num_buffers = len(self.schema.buffers)
        self._ledger = ledger
        self._shapes = [argument_shape(spec, argument) for argument in self.schema.buffers]
        self._dtypes = [
            pool_dtype if argument.kind == "pool" else argument.dtype
            for argument in self.schema.buffers
        ]

    def check_buffers(self, arguments: Sequence[Argument]) -> int:
        """Check all buffers of a launch; return the most rows that they allow."""
        wanted = self.schema.arguments
        if len(arguments) != len(wanted):
            names = ", ".join(argument.name for argument in wanted)
            raise self._error(f"takes {len(wanted)} arguments ({names}), got {len(arguments)}")
        rows: list[int] = []
        for index, argument in enumerate(self.schema.buffers):
            given = arguments[index]
            if not isinstance(given, Buffer):
                raise self._error(f"argument {argument.name} must be a buffer, got {given!r}")
            self._check_buffer(given, index, argument)
            if argument.shape[0] == ROWS:
                rows.append(given.shape[0])
        self._check_overlap(cast("Sequence[Buffer]", arguments[: self.num_buffers]))
        return min(rows)

    def check_scalars(self, scalars: Sequence[Argument], max_rows: int) -> None:
        """Check `n`, or `first, n`, against the rows of the buffers."""
        total = 0
        for argument, value in zip(self.schema.scalars, scalars, strict=True):
            if not isinstance(value, int) or value < 0:
                raise self._error(f"argument {argument.name} must be an int >= 0, got {value!r}")
            total += value
        if total > max_rows:
            raise self._error(f"launched on {total} rows; its buffers have {max_rows}")

    def check_weight(self, data: Array) -> None:
        """Check what is given to `Device.prepare_weight`: float32, in the weight's shape."""
        weights = [index for index, a in enumerate(self.schema.buffers) if a.kind == "weight"]
        if not weights:
            raise self._error("has no weight to prepare")
        shape = self._shapes[weights[0]]
        if data.shape != shape or data.dtype != "float32":
            sizes = ", ".join(str(size) for size in shape)
            raise self._error(
                f"wants a weight float32[{sizes}], got {data.dtype}{list(data.shape)}"
            )

    def _check_buffer(self, given: Buffer, index: int, argument: ArgumentSchema) -> None:
        self._ledger.check(given)
        shape, dtype = self._shapes[index], self._dtypes[index]
        fits = len(given.shape) == len(shape) and all(
            size is None or size == actual for size, actual in zip(shape, given.shape, strict=True)
        )
        if not fits or given.dtype != dtype:
            sizes = ", ".join(
                axis if size is None else str(size)
                for axis, size in zip(argument.shape, shape, strict=True)
            )
            raise self._error(
                f"argument {argument.name} must be {dtype}[{sizes}],"
                f" got {given.dtype}{list(given.shape)}"
            )

    def _check_overlap(self, given: Sequence[Buffer]) -> None:
        """Kernels are compiled under the promise that what they write has one name."""
        for argument, buffer in zip(self.schema.buffers, given, strict=True):
            written = argument.kind in ("output", "inout", "pool")
            if written and sum(other is buffer for other in given) > 1:
                raise self._error(f"argument {argument.name} is written and passed twice")

    def _error(self, problem: str) -> DeviceError:
        return DeviceError(f"{self._ledger.device}: kernel {self.spec.op} {problem}")
