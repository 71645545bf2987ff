"""A tool's failure counts where its value is needed, in executor and reference alike."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tokenloom import driver
from tokenloom.runtime.errors import ToolError
from tokenloom.runtime.program import decode
from tokenloom.runtime.reference import interpret
from tokenloom.runtime.tools import ToolRunner

SCRIPT = """tool boom(x: text) -> text {{
    impl = "broken:boom"
}}

workflow main(say: text = "hello") -> text {{
    let loud = boom(say)
    return {result}
}}
"""


def write(folder: Path, result: str) -> Path:
    (folder / "broken.py").write_text("def boom(x):\n    raise ValueError('no')\n")
    script = folder / "w.loom"
    script.write_text(SCRIPT.format(result=result))
    return script


def refer(script: Path) -> object:
    program = decode(driver.compile(script, to="flow").module)
    tools = ToolRunner(program.tools)
    try:
        return asyncio.run(interpret(program, "main", ["hello"], {}, tools)).value
    finally:
        tools.close()


@pytest.mark.parametrize("attempt", range(5))
def test_what_nobody_needs_may_fail(tmp_path: Path, attempt: int) -> None:
    script = write(tmp_path, "say")
    assert driver.run(script).value == "hello"
    assert refer(script) == "hello"


def test_what_is_needed_fails_the_run(tmp_path: Path) -> None:
    script = write(tmp_path, "loud")
    with pytest.raises(ToolError, match="ValueError: no"):
        driver.run(script)
    with pytest.raises(ToolError, match="ValueError: no"):
        refer(script)
