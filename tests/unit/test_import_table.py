"""The allow-list contract: each row of the table is broken on purpose once."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_contract() -> Any:
    spec = importlib.util.spec_from_file_location("allow_contract", ROOT / ".ci/allow_contract.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONTRACT = load_contract()
TABLE = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
ROWS = [CONTRACT.parse_row(row) for row in TABLE[0]["table"]]

FORBIDDEN = [
    ("tokenloom.ir.flow", "tokenloom.models.config"),
    ("tokenloom.ir.kv", "lark"),
    ("tokenloom.models.config", "tokenloom.kernel_spec"),
    ("tokenloom.models.llama", "torch"),
    ("tokenloom.backends.host", "tvm"),
    ("tokenloom.backends.machine", "torch"),
    ("tokenloom.backends.pim.device", "tokenloom.runtime.pages"),
    ("tokenloom.backends.kernels.linear", "tokenloom.ir.exec"),
    ("tokenloom.compiler.pipeline", "tokenloom.runtime.engine"),
    ("tokenloom.compiler.plan", "tokenloom.backends.host"),
    ("tokenloom.compiler.transforms.place_attention", "tokenloom.backends.kernel_ops"),
    ("tokenloom.compiler.opt", "tvm"),
    ("tokenloom.compiler.frontend.build", "tokenloom.models.llama"),
    ("tokenloom.runtime.engine", "tokenloom.ir.exec"),
    ("tokenloom.runtime.engine", "xdsl"),
    ("tokenloom.runtime.program", "tokenloom.compiler.plan"),
    ("tokenloom.runtime.reference", "tvm"),
    ("tokenloom.kernel_spec", "numpy"),
    ("tokenloom.cli.main", "tvm"),
]


@pytest.mark.parametrize(("importer", "imported"), FORBIDDEN)
def test_forbidden_import_is_found(importer: str, imported: str) -> None:
    found = CONTRACT.find_violations(ROWS, {importer: {imported, "json"}})
    assert found == [(importer, imported)]


def test_allowed_imports_pass() -> None:
    allowed = {
        "tokenloom.backends.kernels.linear": {"tvm", "tokenloom.kernel_spec"},
        "tokenloom.runtime.program": {"tokenloom.ir.exec", "xdsl.parser"},
        "tokenloom.compiler.transforms.place_attention": {"tokenloom.backends.cost"},
    }
    assert CONTRACT.find_violations(ROWS, allowed) == []


def test_a_module_outside_the_table_is_found() -> None:
    assert CONTRACT.find_violations(ROWS[1:], {"tokenloom.novel": set()})
