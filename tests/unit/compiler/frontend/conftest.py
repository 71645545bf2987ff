"""A program to start from, and the checker on a text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tokenloom.compiler.frontend.check import check_file
from tokenloom.compiler.frontend.checked import Checked

PRELUDE = """model smol = "tiny"

agent Judge { model = smol }

agent Debater(name: text, side: "for" | "against" = "for") {
    model  = smol
    system = "You are {name} and argue {side}."
}

tool look(query: text) -> text { command = ["rg", "{query}"] }

tool post(what: text) -> text {
    command = ["post", "{what}"]
    effect
}
"""


@pytest.fixture
def check(tmp_path: Path) -> Callable[[str], Checked]:
    """Check declarations that stand after a prelude."""
    return lambda source: check_file(tmp_path / "main.loom", PRELUDE + source)
