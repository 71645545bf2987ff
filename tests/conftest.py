"""Fixtures that every test folder may ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tokenloom.models.registry import Model, fetch, resolve


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The default model's GGUF file, fetched if need be."""
    return fetch("smollm2-135m-instruct", print)


@pytest.fixture(scope="session")
def smollm2(smollm2_path: Path) -> Model:
    """The default model; tests that take it are marked `model`."""
    assert smollm2_path.is_file()
    return resolve("smollm2-135m-instruct", Path())


@pytest.fixture(scope="session")
def tiny() -> Model:
    """The seeded model of two layers."""
    return resolve("tiny", Path())


@pytest.fixture(scope="session")
def smollm2_oracle(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The default model in transformers, float32, from the same GGUF file."""
    import torch
    from transformers import AutoModelForCausalLM

    # One thread: several wait for each other after each small product, badly on a busy machine.
    torch.set_num_threads(1)
    # In a folder of its own, or transformers would read what we keep beside the file.
    folder = tmp_path_factory.mktemp("oracle")
    (folder / "model.gguf").symlink_to(smollm2_path)
    auto: Any = AutoModelForCausalLM
    return auto.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32).eval()
