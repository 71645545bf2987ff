"""The user's cache directory, and writing into it so that a reader never sees half a file."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from tokenloom.models.errors import ModelError


def cache_dir() -> Path:
    """Return $TOKENLOOM_CACHE, or tokenloom/ in $XDG_CACHE_HOME or ~/.cache."""
    chosen = os.environ.get("TOKENLOOM_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenloom"


def write_whole(path: Path, text: str) -> None:
    """Write `text` beside `path` and rename, so that it is there whole or not at all.

    Raises OSError, also one of the file beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_file(path: Path, text: str) -> None:
    """Write a file of the cache whole. Raises ModelError when that is not possible."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be written: {error.strerror} (set TOKENLOOM_CACHE to another folder)"
        ) from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex. Raises ModelError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
