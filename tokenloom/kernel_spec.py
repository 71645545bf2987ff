"""A kernel's name: operation, static shape, dtype, target, numeric mode.

Plain data shared by the compiler, which names kernels, and the backends, which build them.
It knows nothing of how a kernel is built or run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

Mode = Literal["exact", "fast"]
MODES: tuple[Mode, ...] = ("exact", "fast")


@dataclass(frozen=True, order=True)
class KernelSpec:
    """One kernel: `op` with the static dimensions `dims`, for `device`.

    `dims` are the sizes that are compiled in, by name and sorted; the number of rows is a run-time
    value. `attrs` are constants that are no sizes, such as an epsilon. `dtype` is that of the
    activations.
    """

    op: str
    dims: tuple[tuple[str, int], ...]
    attrs: tuple[tuple[str, float], ...] = ()
    dtype: str = "float32"
    device: str = "host"
    mode: Mode = "exact"

    @classmethod
    def of(
        cls,
        op: str,
        *,
        device: str = "host",
        mode: Mode = "exact",
        dtype: str = "float32",
        attrs: Mapping[str, float] | None = None,
        **dims: int,
    ) -> KernelSpec:
        """Make a spec from keyword dimensions, sorted so that equal kernels are equal specs."""
        constants = tuple(sorted((attrs or {}).items()))
        return cls(op, tuple(sorted(dims.items())), constants, dtype, device, mode)

    def dim(self, name: str) -> int:
        """Return the dimension `name`; a KeyError names the kernel that lacks it."""
        for key, value in self.dims:
            if key == name:
                return value
        raise KeyError(f"kernel {self.op} has no dimension {name!r}")

    def attr(self, name: str) -> float:
        """Return the constant `name`; a KeyError names the kernel that lacks it."""
        for key, value in self.attrs:
            if key == name:
                return value
        raise KeyError(f"kernel {self.op} has no attribute {name!r}")

    def to_json(self) -> dict[str, object]:
        """Return the spec as JSON data."""
        return {
            "op": self.op,
            "dims": dict(self.dims),
            "attrs": dict(self.attrs),
            "dtype": self.dtype,
            "device": self.device,
            "mode": self.mode,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> KernelSpec:
        """Read back what `to_json` wrote."""
        dims = cast("dict[str, int]", data["dims"])
        attrs = cast("dict[str, float]", data["attrs"])
        return cls(
            str(data["op"]),
            tuple(sorted(dims.items())),
            tuple(sorted(attrs.items())),
            str(data["dtype"]),
            str(data["device"]),
            cast("Mode", data["mode"]),
        )

    def key(self) -> str:
        """Return a short stable hash, used as a file name in caches and bundles."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return f"{self.op}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def __str__(self) -> str:
        sizes = ", ".join(f"{name}={value}" for name, value in self.dims)
        return f"{self.op}[{sizes}] {self.dtype} {self.device} {self.mode}"
