"""Models by name or path: what there is, where it lies, and what it is made of."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

from tokenloom.models import tiny
from tokenloom.models.cache import cache_dir
from tokenloom.models.catalog import PublishedShape, catalog
from tokenloom.models.config import ModelConfig
from tokenloom.models.errors import ModelError
from tokenloom.models.fetch import PUBLISHED, download, model_dir
from tokenloom.models.gguf_model import GgufModel
from tokenloom.models.safetensors_model import SafetensorsModel
from tokenloom.models.template import ChatTemplate
from tokenloom.models.tokenizer import Tokenizer
from tokenloom.models.weights import Weights

__all__ = ["Model", "ModelError", "ModelInfo", "available", "fetch", "resolve"]


class ModelSource(Protocol):
    """Where the parts of one model come from; each is made anew at every call."""

    @property
    def name(self) -> str:
        """The name in the registry, or the path as the user gave it."""
        ...

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        ...

    def digest(self) -> str:
        """Return the SHA-256 (hex) of what determines the weights."""
        ...

    def tokenizer(self) -> Tokenizer:
        """Build the tokenizer."""
        ...

    def template(self) -> ChatTemplate:
        """Build the chat template."""
        ...

    def weights(self) -> Weights:
        """Open the weights."""
        ...


class Model:
    """A model and its parts, each made at its first use and kept.

    Every part raises ModelError when the files behind it are missing, damaged or unsupported.
    """

    def __init__(self, source: ModelSource) -> None:
        self._source = source

    @property
    def name(self) -> str:
        """The name in the registry, or the path as the user gave it."""
        return self._source.name

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self._source.config

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the weight file, or of the seed and shape of a made-up model."""
        return self._source.digest()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's own vocabulary."""
        return self._source.tokenizer()

    @cached_property
    def template(self) -> ChatTemplate:
        """The markers of the model's chat template."""
        return self._source.template()

    def weights(self) -> Weights:
        """Open the weights, to be read on demand."""
        return self._weights

    @cached_property
    def _weights(self) -> Weights:
        return self._source.weights()


@dataclass(frozen=True)
class ModelInfo:
    """One line of `tokenloom models`.

    A "built-in" is always there, a "download" is fetched once, a "shape" has no weights.
    """

    name: str
    kind: Literal["built-in", "download", "shape"]
    description: str
    installed: bool
    size_bytes: int


def available() -> list[ModelInfo]:
    """List all names that `resolve` knows; `size_bytes` is the download, 0 where there is none."""
    found = [ModelInfo(tiny.NAME, "built-in", "seeded random model for tests", True, 0)]
    for name, model in PUBLISHED.items():
        installed = (model_dir(name) / "index.json").is_file()
        found.append(ModelInfo(name, "download", model.description, installed, model.size_bytes))
    for name, config in catalog().items():
        billions = config.num_parameters() / 1e9
        description = f"shape for planning, {billions:.2f} B parameters"
        found.append(ModelInfo(name, "shape", description, False, 0))
    return found


def resolve(name_or_path: str, base_dir: Path) -> Model:
    """Find the model of that name, or the GGUF file or folder at that path.

    A path is relative to `base_dir`. Raises ModelError: unknown name, missing, damaged or
    unsupported file, a download that has not been fetched.
    """
    if name_or_path == tiny.NAME:
        return Model(tiny.TinyModel())
    if name_or_path in PUBLISHED:
        return Model(PUBLISHED[name_or_path].open(name_or_path))
    if name_or_path in catalog():
        return Model(PublishedShape(name_or_path))
    path = base_dir / Path(name_or_path).expanduser()
    if path.is_dir():
        return Model(SafetensorsModel(name_or_path, path))
    if path.is_file():
        return Model(_local_gguf(name_or_path, path.resolve()))
    if "/" in name_or_path or path.suffix == ".gguf":
        raise ModelError(f"model '{name_or_path}' is neither a name nor a path: no {path}")
    raise _unknown(name_or_path)


def fetch(name: str, progress: Callable[[str], None]) -> Path:
    """Bring a "download" model here, unless it is: the path of its file, checked and indexed.

    `progress` takes one line for each step. Raises ModelError: unknown name, no network, no
    room, a damaged download.
    """
    if name not in PUBLISHED:
        known = [info.name for info in available()]
        raise ModelError(f"model '{name}' needs no fetching") if name in known else _unknown(name)
    model = PUBLISHED[name]
    path = model_dir(name) / "model.gguf"
    try:
        model.open(name)
    except ModelError:  # not there, or damaged: both end in a new download
        return download(name, model, progress)
    progress(f"{name} is already here")
    return path


def _local_gguf(name: str, path: Path) -> GgufModel:
    key = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    return GgufModel(name, path, cache_dir() / "indexes" / f"{path.stem}-{key}")


def _unknown(name: str) -> ModelError:
    known = [info.name for info in available()]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else "`tokenloom models` lists the names"
    return ModelError(f"unknown model '{name}': {hint}")
