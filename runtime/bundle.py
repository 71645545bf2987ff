"""A compiled program on disk: a folder that is either whole or not there.

`program.mlir`, `plan.json`, further files such as kernels, and `manifest.json` with the checksum
of each. It knows nothing of what the files say.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from tokenloom.runtime.errors import BundleError

FORMAT = 1
MANIFEST = "manifest.json"
PROGRAM = "program.mlir"
PLAN = "plan.json"


@dataclass(frozen=True)
class Manifest:
    """What a bundle was made with and for.

    `versions` are those of the packages that made it. `models` has `{"source", "digest"}` by
    symbol; their paths start in `base_dir`. `instruction_set` is what compiled kernels in it need;
    empty where there are none.
    """

    versions: Mapping[str, str]
    models: Mapping[str, Mapping[str, str]]
    device: str
    mode: str
    base_dir: str = ""
    instruction_set: str = ""


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and whose checksums agree."""

    path: Path
    manifest: Manifest
    program: str
    plan: Mapping[str, Any]


def write_bundle(
    path: Path,
    manifest: Manifest,
    program: str,
    plan: Mapping[str, Any],
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Write a bundle, in place of one that is there. `files` have paths inside the bundle.

    It appears at once and whole. Raises BundleError where something else has that name.
    """
    contents = {
        PROGRAM: program.encode(),
        PLAN: (json.dumps(plan, indent=2, ensure_ascii=False) + "\n").encode(),
        **(files or {}),
    }
    contents[MANIFEST] = _manifest_text(manifest, contents).encode()
    if path.exists() and not _may_replace(path):
        raise BundleError(f"{path} exists and is no bundle: choose another name or remove it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise BundleError(f"cannot write {path}: {error.strerror}") from error
    try:
        for name, data in contents.items():
            file = made / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        _put_in_place(made, path)
    except OSError as error:
        raise BundleError(f"cannot write {path}: {error.strerror}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def read_bundle(path: Path, instruction_set: str | None = None) -> Bundle:
    """Read a bundle and check it.

    With `instruction_set`, that of this machine as space-separated features, kernels that need
    more are refused. Raises BundleError, which says what is wrong and what to do.
    """
    if not path.is_dir():
        raise BundleError(f"there is no bundle at {path}: make one with `tokenloom compile`")
    data = _read_manifest(path)
    manifest = _manifest(path, data)
    for name, checksum in cast("dict[str, str]", data["files"]).items():
        _check_file(path, name, checksum)
    missing = set(manifest.instruction_set.split()) - set((instruction_set or "").split())
    if instruction_set is not None and missing:
        raise BundleError(
            f"the kernels in {path} need {', '.join(sorted(missing))}, which this machine lacks:"
            " compile again here"
        )
    program = (path / PROGRAM).read_text(encoding="utf-8")
    return Bundle(path, manifest, program, json.loads((path / PLAN).read_bytes()))


def _manifest_text(manifest: Manifest, contents: Mapping[str, bytes]) -> str:
    data = {
        "format": FORMAT,
        "versions": dict(manifest.versions),
        "models": {name: dict(model) for name, model in manifest.models.items()},
        "device": manifest.device,
        "mode": manifest.mode,
        "base_dir": manifest.base_dir,
        "instruction_set": manifest.instruction_set,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _may_replace(path: Path) -> bool:
    return path.is_dir() and ((path / MANIFEST).is_file() or not any(path.iterdir()))


def _put_in_place(made: Path, path: Path) -> None:
    """Rename the new folder to its name; an old one steps aside first, and back on failure."""
    made.chmod(0o755)
    if not path.exists():
        os.rename(made, path)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    os.rename(path, aside / "old")
    try:
        os.rename(made, path)
    except BaseException:
        os.rename(aside / "old", path)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        data = json.loads((path / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise BundleError(f"{path} is no bundle: it has no {MANIFEST}") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path / MANIFEST} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise BundleError(f"{path / MANIFEST} is damaged: it is no JSON object")
    return cast("dict[str, Any]", data)


def _manifest(path: Path, data: Mapping[str, Any]) -> Manifest:
    found = data.get("format")
    if found != FORMAT:
        raise BundleError(
            f"{path} has format {found}, this version reads {FORMAT}: compile it again"
        )
    try:
        files = cast("dict[str, str]", data["files"])
        if PROGRAM not in files or PLAN not in files:
            raise BundleError(f"{path / MANIFEST} is damaged: it names no {PROGRAM} and {PLAN}")
        return Manifest(
            data["versions"],
            data["models"],
            data["device"],
            data["mode"],
            data["base_dir"],
            data.get("instruction_set", ""),
        )
    except (KeyError, TypeError) as error:
        raise BundleError(f"{path / MANIFEST} is damaged: it lacks {error}") from error


def _check_file(path: Path, name: str, checksum: str) -> None:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise BundleError(f"{path / MANIFEST} names a file outside of the bundle: {name}")
    try:
        found = hashlib.sha256((path / name).read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(f"{path} is damaged: {name} cannot be read: {error.strerror}") from error
    if found != checksum:
        raise BundleError(f"{path} is damaged: {name} was changed; compile it again")
