from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from xdsl.dialects.builtin import ModuleOp

from tokenloom.compiler.frontend.build import build
from tokenloom.compiler.frontend.check import check_file

PROGRAM = """
model m = "tiny"

tool look(query: text) -> text { impl = "tools:look", takes = 2s }

agent Debater(name: text) {
    model  = m
    reuse  = linked
    system = \"\"\"You are {name}, and you argue with care and patience.\"\"\"
}

agent Judge { model = m, system = \"\"\"You judge debates with care and patience.\"\"\" }

workflow debate(topic: text = "cars", rounds: int(1..8) = 2) -> text {
    let facts = look(topic)
    let panel = [Debater("Ann"), Debater("Bo"), Debater("Cy")]
    let views = gather d in panel for rounds {
        d.ask(\"\"\"Topic: {topic} {facts} {others}\"\"\", max = 32)
    }
    return Judge.ask(\"\"\"Who won? {views}\"\"\", max = 16)
}
"""

Build = Callable[[str], ModuleOp]


@pytest.fixture
def build_text(tmp_path: Path) -> Build:
    """Return a function from source text to flow IR."""

    return lambda source: build(check_file(tmp_path / "program.loom", source))


@pytest.fixture
def debate(build_text: Build) -> ModuleOp:
    return build_text(PROGRAM)
