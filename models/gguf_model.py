"""A model in a GGUF file, with an index beside it so that opening it again is quick.

The index (JSON: configuration, template, digest, table of contents) and a `tokenizer.json` are
made once; they are good as long as the file keeps its size and time of change.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np

from tokenloom.models.cache import sha256_of, write_file
from tokenloom.models.config import ModelConfig
from tokenloom.models.errors import ModelError
from tokenloom.models.gguf_config import read_config
from tokenloom.models.gguf_header import GgufHeader, entries, entry, read_header
from tokenloom.models.gguf_tokenizer import build_tokenizer_json
from tokenloom.models.template import ChatTemplate
from tokenloom.models.tensor_file import TensorEntry, TensorFile
from tokenloom.models.tensor_names import GGUF, open_weights
from tokenloom.models.tokenizer import Tokenizer
from tokenloom.models.weights import Weights

_FORMAT = 1  # of the index: raise it with every change of what is written


class GgufModel:
    """The parts of a model in one GGUF file."""

    def __init__(self, name: str, path: Path, index_dir: Path, sha256: str | None = None) -> None:
        """Open `path` by its index in `index_dir`, which is made when it is missing or old.

        `sha256` is the published checksum, if there is one. Raises ModelError when the file is
        missing, damaged or not supported.
        """
        self.name = name
        self._path = path
        self._index_dir = index_dir
        self._index = _read_index(path, index_dir, sha256) or _make_index(
            name, path, index_dir, sha256
        )
        self.config = ModelConfig.from_json(self._index["config"])

    def digest(self) -> str:
        """Return the SHA-256 of the file as it was indexed."""
        return str(self._index["sha256"])

    def tokenizer(self) -> Tokenizer:
        """Read the tokenizer made at indexing."""
        path = self._index_dir / "tokenizer.json"
        try:
            return Tokenizer.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}") from error

    def template(self) -> ChatTemplate:
        """Build the file's own chat template. Raises ModelError when it has none."""
        source = self._index["template"]
        if not source:
            raise ModelError(f"{self.name} has no chat template: it is not a model for dialogue")
        return ChatTemplate(
            source, self.name, bos_token=self._index["bos"], eos_token=self._index["eos"]
        )

    def weights(self) -> Weights:
        """Map the file into memory."""
        entries = [TensorEntry(n, f, tuple(s), o) for n, f, s, o in self._index["tensors"]]
        # Of GGUF's architectures only "llama" keeps rotated pairs side by side.
        interleaved = self._index["architecture"] == "llama"
        file = TensorFile(self._path, entries)
        return open_weights(self.config, GGUF, [file], interleaved=interleaved)


def _stamp(path: Path) -> dict[str, int]:
    """Return what must not have changed since a file was indexed."""
    try:
        found = path.stat()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    return {"size_bytes": found.st_size, "modified_ns": found.st_mtime_ns, "format": _FORMAT}


def _read_index(path: Path, index_dir: Path, sha256: str | None) -> dict[str, Any] | None:
    """Return the index, or None when there is none for the file as it is."""
    file = index_dir / "index.json"
    if not (file.is_file() and (index_dir / "tokenizer.json").is_file()):
        return None
    try:
        index = cast("dict[str, Any]", json.loads(file.read_text(encoding="utf-8")))
    except ValueError:
        return None  # half an index of another program; a new one replaces it
    fresh = index.get("stamp") == _stamp(path) and index.get("path") == str(path)
    return index if fresh and sha256 in (None, index["sha256"]) else None


def _make_index(name: str, path: Path, index_dir: Path, sha256: str | None) -> dict[str, Any]:
    stamp = _stamp(path)
    found = sha256_of(path)
    if sha256 not in (None, found):
        raise ModelError(
            f"{path} is damaged: its SHA-256 is {found[:16]}..., not {sha256[:16]}... as "
            f"published; `tokenloom models fetch {name}` puts it right"
        )
    header = read_header(path)
    metadata = header.metadata
    index = {
        "stamp": stamp,
        "path": str(path),
        "sha256": found,
        "architecture": metadata.get("general.architecture"),
        "config": _config(name, path, header).to_json(),
        "template": entry(metadata, "tokenizer.chat_template", str, ""),
        "bos": _token(metadata, "bos"),
        "eos": _token(metadata, "eos"),
        "tensors": [[t.name, t.format, t.shape, t.offset_bytes] for t in header.tensors],
    }
    # The index last: it vouches for the tokenizer beside it.
    write_file(index_dir / "tokenizer.json", build_tokenizer_json(metadata))
    write_file(index_dir / "index.json", json.dumps(index))
    return json.loads(json.dumps(index))


def _config(name: str, path: Path, header: GgufHeader) -> ModelConfig:
    file = TensorFile(path, header.tensors)
    shapes = file.shapes()
    divisors = None
    if "rope_freqs.weight" in shapes:
        divisors = np.empty(shapes["rope_freqs.weight"], np.float32)
        file.read_into("rope_freqs.weight", divisors)
    config = read_config(name, header.metadata, shapes, divisors)
    open_weights(config, GGUF, [file])  # a tensor that is missing or odd is found here
    return config


def _token(metadata: dict[str, Any], role: str) -> str:
    """Return the text of the token for `role`, "" where the file names none."""
    token_id = entry(metadata, f"tokenizer.ggml.{role}_token_id", int, -1)
    tokens = entries(metadata, "tokenizer.ggml.tokens", str)
    return tokens[token_id] if 0 <= token_id < len(tokens) else ""
