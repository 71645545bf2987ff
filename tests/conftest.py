"""Fixtures that every test folder may ask for."""

from __future__ import annotations

from pathlib import Path

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
