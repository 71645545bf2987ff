"""Models by name or path: what there is, where it lies, and what it is made of."""

from __future__ import annotations

import difflib
from functools import cached_property
from pathlib import Path
from typing import Protocol

from tokenloom.models import tiny
from tokenloom.models.config import ModelConfig
from tokenloom.models.errors import ModelError
from tokenloom.models.template import ChatTemplate
from tokenloom.models.tokenizer import Tokenizer
from tokenloom.models.weights import Weights

__all__ = ["Model", "ModelError", "resolve"]


class ModelSource(Protocol):
    """Where the parts of one model come from. Each part is read when it is asked for."""

    @property
    def name(self) -> str:
        """The name that the user gave, or that the registry has."""
        ...

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        ...

    def digest(self) -> str:
        """SHA-256 (hex) of what determines the weights."""
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
        """The registry's name, or the path the model was resolved from."""
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


def resolve(name_or_path: str, base_dir: Path) -> Model:
    """Find the model of that name, or at that path (relative to `base_dir`).

    Raises ModelError for a name or path that is not there.
    """
    if name_or_path == tiny.NAME:
        return Model(tiny.TinyModel())
    raise ModelError(f"unknown model '{name_or_path}'{_suggestion(name_or_path, [tiny.NAME])}")


def _suggestion(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f": did you mean '{near[0]}'?" if near else f" (known: {', '.join(known)})"
