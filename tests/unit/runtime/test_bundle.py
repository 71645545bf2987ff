from __future__ import annotations

import json
from pathlib import Path

import pytest

from tokenloom.runtime.bundle import MANIFEST, Manifest, read_bundle, write_bundle
from tokenloom.runtime.errors import BundleError

MADE = Manifest(
    versions={"tokenloom": "0.1.0"},
    models={"m": {"source": "tiny", "digest": "00"}},
    device="host",
    mode="exact",
    instruction_set="avx2 avx512f",
)


def write(path: Path, program: str = "module {}") -> None:
    write_bundle(path, MADE, program, {"decisions": []}, {"kernels/a.so": b"\x00"})


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "b"
    write(path, "höher")
    bundle = read_bundle(path, "avx2 avx512f sse4")
    assert (bundle.manifest, bundle.program, bundle.plan) == (MADE, "höher", {"decisions": []})
    assert (path / "kernels" / "a.so").read_bytes() == b"\x00"


def test_a_bundle_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "b"
    write(path)
    (path / "left over").write_text("")
    write(path, "new")
    assert read_bundle(path).program == "new"
    assert not (path / "left over").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["b"]


def test_nothing_else_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "b"
    path.mkdir()
    write(path)
    other = tmp_path / "home"
    other.mkdir()
    (other / "letter").write_text("dear")
    with pytest.raises(BundleError, match="exists and is no bundle"):
        write(other)
    assert (other / "letter").read_text() == "dear"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["b", "home"]


def test_a_failed_write_leaves_the_old_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "b"
    write(path)

    def fail(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        with pytest.raises(BundleError, match="No space left on device"):
            write(path, "new")
    assert read_bundle(path).program == "module {}"
    assert [entry.name for entry in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("program.mlir", "changed", "is damaged: program.mlir was changed"),
        (MANIFEST, "{", "cannot be read"),
        (MANIFEST, "[]", "is damaged: it is no JSON object"),
        (MANIFEST, '{"format": 99}', "has format 99, this version reads 1: compile it again"),
        (MANIFEST, '{"format": 1}', "is damaged: it lacks 'files'"),
    ],
)
def test_damage_is_found(tmp_path: Path, name: str, text: str, message: str) -> None:
    write(tmp_path / "b")
    (tmp_path / "b" / name).write_text(text)
    with pytest.raises(BundleError, match=message.replace(".", r"\.")):
        read_bundle(tmp_path / "b")


def test_a_missing_file_and_a_missing_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no bundle at"):
        read_bundle(tmp_path / "b")
    with pytest.raises(BundleError, match=r"is no bundle: it has no manifest\.json"):
        read_bundle(tmp_path)
    write(tmp_path / "b")
    (tmp_path / "b" / "kernels" / "a.so").unlink()
    with pytest.raises(BundleError, match=r"kernels/a\.so cannot be read: No such file"):
        read_bundle(tmp_path / "b")


def test_a_manifest_cannot_name_files_outside(tmp_path: Path) -> None:
    write(tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / MANIFEST).read_text())
    manifest["files"]["../x"] = "00"
    (tmp_path / "b" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="a file outside of the bundle"):
        read_bundle(tmp_path / "b")


def test_kernels_for_another_machine_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "b")
    with pytest.raises(BundleError, match="need avx512f, which this machine lacks"):
        read_bundle(tmp_path / "b", "avx2")
