"""The table of contents of a GGUF file: metadata and where each tensor lies.

The gguf library takes two seconds for this and checks no bounds, so that a cut or damaged file
ends in a stray IndexError; this reader is for untrusted files. The format's source:
ggml-org/ggml, docs/gguf.md. Knows nothing of models.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from tokenloom.models.errors import ModelError
from tokenloom.models.tensor_file import TensorEntry

T = TypeVar("T")

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?",
            10: "<Q", 11: "<q", 12: "<d"}  # fmt: skip
_STRING, _ARRAY = 8, 9
_MAX_NESTING = 4  # of arrays and of dimensions; ggml's own limit for the latter


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says before its data."""

    metadata: dict[str, Any]
    tensors: list[TensorEntry]


def entry(metadata: dict[str, Any], key: str, kind: type[T], default: T | None = None) -> T:
    """Return one entry of the metadata. Raises ModelError: missing, or not of that `kind`."""
    value = metadata.get(key, default)
    if isinstance(value, kind):
        return value
    found = "missing" if value is None else f"{str(value)[:40]!r}"
    raise ModelError(f"the GGUF metadata '{key}' is {found}, not of type {kind.__name__}")


def entries(metadata: dict[str, Any], key: str, kind: type[T]) -> list[T]:
    """Return one entry that is an array. Raises ModelError: missing, or of other items."""
    found = cast("list[Any]", entry(metadata, key, list))
    if not all(isinstance(item, kind) for item in found):
        raise ModelError(f"the GGUF metadata '{key}' holds more than {kind.__name__}")
    return found


def read_header(path: Path) -> GgufHeader:
    """Read the header of `path`. Raises ModelError: no such file, not GGUF, damaged, cut."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Cursor(path, data).header()
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise ModelError(f"{path} cannot be read: {error}") from error


class _Cursor:
    """A place in the file; every read checks that the file goes on that far."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path = path
        self._data = data
        self._size = len(data)
        self._at = 0

    def header(self) -> GgufHeader:
        if self._data[:4] != b"GGUF":
            raise ModelError(f"{self._path} is not a GGUF file (it does not begin with 'GGUF')")
        self._at = 4
        version = self._scalar("<I")
        if version not in (2, 3):
            raise ModelError(f"{self._path}: GGUF version {version} is not supported (2 and 3 are)")
        num_tensors, num_entries = self._scalar("<Q"), self._scalar("<Q")
        metadata: dict[str, Any] = {}
        for _ in range(num_entries):
            key = self._string()
            metadata[key] = self._value(self._scalar("<I"), 0)
        tensors = [self._tensor() for _ in range(num_tensors)]
        return GgufHeader(metadata, self._absolute(tensors, metadata))

    def _absolute(self, tensors: list[TensorEntry], metadata: dict[str, Any]) -> list[TensorEntry]:
        """Turn offsets within the data section into offsets within the file."""
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0:
            self._damaged()
        start = -(-self._at // alignment) * alignment
        return [TensorEntry(t.name, t.format, t.shape, start + t.offset_bytes) for t in tensors]

    def _tensor(self) -> TensorEntry:
        name = self._string()
        num_dims = self._scalar("<I")
        if not 1 <= num_dims <= _MAX_NESTING:
            self._damaged()
        dims = tuple(self._scalar("<Q") for _ in range(num_dims))
        if 0 in dims:
            self._damaged()
        type_id, offset = self._scalar("<I"), self._scalar("<Q")
        return TensorEntry(name, _format_name(type_id), dims[::-1], offset)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY or depth == _MAX_NESTING:
            self._damaged()
        item_kind, num_items = self._scalar("<I"), self._scalar("<Q")
        if item_kind in _SCALARS:
            code = _SCALARS[item_kind][1]
            raw = self._take(num_items * struct.calcsize("<" + code))
            return list(struct.unpack(f"<{num_items}{code}", raw))
        return [self._value(item_kind, depth + 1) for _ in range(num_items)]

    def _string(self) -> str:
        return self._take(self._scalar("<Q")).decode("utf-8", "replace")

    def _scalar(self, code: str) -> Any:
        return struct.unpack(code, self._take(struct.calcsize(code)))[0]

    def _take(self, num_bytes: int) -> bytes:
        start, self._at = self._at, self._at + num_bytes
        if self._at > self._size:
            self._damaged()
        return self._data[start : self._at]

    def _damaged(self) -> None:
        raise ModelError(
            f"{self._path} is damaged or cut short: its header cannot be read near byte "
            f"{min(self._at, self._size)}"
        )


def _format_name(type_id: int) -> str:
    """Name a tensor type as ggml does."""
    import gguf  # slow to import; only files that are not indexed yet come here

    try:
        return gguf.GGMLQuantizationType(type_id).name
    except ValueError:
        return f"ggml type {type_id}"
