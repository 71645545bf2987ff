"""Memory of the host device: aligned arrays, and how much there is."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tokenloom.backends.device import Array

ALIGNMENT_BYTES = 64
"""What compiled kernels assume: one cache line, one AVX-512 vector."""

_HUGE_PAGE_BYTES = 2 << 20
_SLAB_BYTES = 64 << 20
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def aligned_zeros(shape: Sequence[int], dtype: str) -> Array:
    """Return zeros at an aligned address; large ones on huge pages, which are faster to stream."""
    size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    if size_bytes >= 2 * _HUGE_PAGE_BYTES:
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # shared memory gets no huge pages
        memory = mmap.mmap(-1, size_bytes + _HUGE_PAGE_BYTES, flags=private)
        memory.madvise(mmap.MADV_HUGEPAGE)
        raw, alignment = np.frombuffer(memory, np.uint8), _HUGE_PAGE_BYTES
    else:
        raw, alignment = np.zeros(size_bytes + ALIGNMENT_BYTES, np.uint8), ALIGNMENT_BYTES
    start = -raw.ctypes.data % alignment
    return raw[start : start + size_bytes].view(dtype).reshape(shape)


class Slabs:
    """Zeroed arrays side by side on huge pages, for what is allocated once and kept together.

    A slab goes when the last of its arrays does. Not to be used from two threads at once.
    """

    def __init__(self) -> None:
        self._free = aligned_zeros((0,), "uint8")

    def zeros(self, shape: Sequence[int], dtype: str) -> Array:
        """Return zeros at an aligned address."""
        size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        if size_bytes > _SLAB_BYTES // 4:
            return aligned_zeros(shape, dtype)
        if size_bytes > len(self._free):
            self._free = aligned_zeros((_SLAB_BYTES,), "uint8")
        taken = self._free[:size_bytes].view(dtype).reshape(shape)
        self._free = self._free[-(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES :]
        return taken


def available_bytes() -> int:
    """Return the memory that can be had now: the kernel's estimate, within the cgroup's limit."""
    available = _meminfo_bytes("MemAvailable")
    limit = _number(_CGROUP / "memory.max")
    if limit is not None:
        available = min(available, limit - (_number(_CGROUP / "memory.current") or 0))
    return max(available, 0)


def _meminfo_bytes(field: str) -> int:
    for line in _MEMINFO.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise RuntimeError(f"{_MEMINFO} has no {field}")


def _number(path: Path) -> int | None:
    if not path.exists():
        return None
    text = path.read_text().strip()
    return int(text) if text.isdigit() else None
