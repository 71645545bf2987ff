"""A model in a folder as transformers saves it: config.json, *.safetensors, tokenizer.json."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open

from tokenloom.models.cache import sha256_of
from tokenloom.models.errors import ModelError
from tokenloom.models.template import ChatTemplate
from tokenloom.models.tensor_file import TensorEntry, TensorFile
from tokenloom.models.tensor_names import TRANSFORMERS, open_weights
from tokenloom.models.tokenizer import Tokenizer
from tokenloom.models.transformers_config import read_config
from tokenloom.models.weights import Weights

Json = dict[str, Any]


class SafetensorsModel:
    """The parts of a model in one folder."""

    def __init__(self, name: str, folder: Path) -> None:
        """Read the configuration. Raises ModelError: missing files, unsupported model."""
        self.name = name
        self._folder = folder
        self._files = sorted(folder.glob("*.safetensors"))
        if not (folder / "config.json").is_file() or not self._files:
            raise ModelError(f"{folder} holds no model: config.json and *.safetensors are needed")
        generation = self._optional("generation_config.json")
        self.config = read_config(name, _read_json(folder / "config.json"), generation)

    def digest(self) -> str:
        """Return the SHA-256 over the configuration and all weight files (it reads them all)."""
        digests = [sha256_of(path) for path in (self._folder / "config.json", *self._files)]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def tokenizer(self) -> Tokenizer:
        """Read tokenizer.json. Raises ModelError when it is missing or not byte-level."""
        path = self._folder / "tokenizer.json"
        try:
            return Tokenizer.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}") from error

    def template(self) -> ChatTemplate:
        """Find the chat template: in a file of its own, or in tokenizer_config.json."""
        settings = self._optional("tokenizer_config.json")
        file = self._folder / "chat_template.jinja"
        source = file.read_text(encoding="utf-8") if file.is_file() else _template(settings)
        if not source:
            raise ModelError(f"{self.name} has no chat template: it is not a model for dialogue")
        return ChatTemplate(
            source,
            self.name,
            bos_token=_token_text(settings.get("bos_token")),
            eos_token=_token_text(settings.get("eos_token")),
        )

    def weights(self) -> Weights:
        """Map the files into memory."""
        files = [TensorFile(path, _entries(path)) for path in self._files]
        return open_weights(self.config, TRANSFORMERS, files)

    def _optional(self, name: str) -> Json:
        path = self._folder / name
        return _read_json(path) if path.is_file() else {}


def _read_json(path: Path) -> Json:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path} is not a JSON object")
    return cast("Json", data)


def _template(settings: Json) -> str:
    found = settings.get("chat_template") or ""
    if isinstance(found, list):
        named = {str(entry["name"]): str(entry["template"]) for entry in cast("list[Json]", found)}
        return named.get("default", "")
    return str(found)


def _token_text(token: Any) -> str:
    """Return a special token's text: files hold it as it is or in an object."""
    return str(cast("Json", token).get("content", "")) if isinstance(token, dict) else token or ""


def _entries(path: Path) -> list[TensorEntry]:
    """Read the table of contents, checked by the safetensors library.

    The library's own reading of bfloat16 needs torch, so the data is mapped by `TensorFile`.
    The layout's source: huggingface/safetensors, README.md, "Format".
    """
    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged or cut short: {error}") from error
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        header = cast("dict[str, Json]", json.loads(file.read(header_bytes)))
    header.pop("__metadata__", None)
    start = 8 + header_bytes
    return [
        TensorEntry(name, at["dtype"], tuple(at["shape"]), start + at["data_offsets"][0])
        for name, at in header.items()
    ]
