"""Published model shapes, for planning without weights (`catalog.toml`)."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, NoReturn

from tokenloom.models.config import ModelConfig
from tokenloom.models.errors import ModelError
from tokenloom.models.template import ChatTemplate
from tokenloom.models.tokenizer import Tokenizer
from tokenloom.models.weights import Weights


@cache
def catalog() -> dict[str, ModelConfig]:
    """Return all published shapes by name."""
    text = files("tokenloom.models").joinpath("catalog.toml").read_text(encoding="utf-8")
    entries: dict[str, dict[str, Any]] = tomllib.loads(text)
    return {name: ModelConfig.from_json({"name": name, **e}) for name, e in entries.items()}


class PublishedShape:
    """A model of which only the shape is here: all of its other parts raise ModelError."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.config = catalog()[name]

    def digest(self) -> str:
        """Raise ModelError."""
        self._refuse()

    def tokenizer(self) -> Tokenizer:
        """Raise ModelError."""
        self._refuse()

    def template(self) -> ChatTemplate:
        """Raise ModelError."""
        self._refuse()

    def weights(self) -> Weights:
        """Raise ModelError."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ModelError(
            f"'{self.name}' is a published shape, for planning: its weights are not here. "
            "Give the path of a GGUF file or of a folder with safetensors"
        )
