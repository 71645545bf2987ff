"""Every example in the documentation works: Loom checks, MLIR verifies, Python runs, TOML loads."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from xdsl.parser import Parser

from tokenloom.backends.machine import load_machine
from tokenloom.compiler.frontend.check import check_file
from tokenloom.ir.dialects import make_context
from tokenloom.ir.verify import verify_module

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[object]:
    return [
        pytest.param(block, id=f"{page.stem}-{index}")
        for page in PAGES
        for index, block in enumerate(
            re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
        )
    ]


@pytest.mark.parametrize("source", blocks("loom"))
def test_loom_checks(source: str, tmp_path: Path) -> None:
    assert check_file(tmp_path / "example.loom", source).warnings == ()


@pytest.mark.parametrize("source", blocks("mlir"))
def test_mlir_verifies(source: str) -> None:
    verify_module(Parser(make_context(), source).parse_module())


@pytest.mark.parametrize("source", blocks("python"))
def test_python_runs(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("example.py").write_text(source, "utf-8")
    runpy.run_path("example.py", run_name="example")


@pytest.mark.parametrize("source", blocks("toml"))
def test_machine_loads(source: str, tmp_path: Path) -> None:
    path = tmp_path / "machine.toml"
    path.write_text(source, "utf-8")
    assert load_machine(path).description


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_named_exist(page: Path) -> None:
    names = re.findall(r"`((?:\w+/)+\w+\.(?:py|toml|lark|loom))`", page.read_text("utf-8"))
    assert [name for name in names if not (ROOT / name).exists() and "<" not in name] == []
