"""A tool or a check that fails while a program runs: its place, the cause, exit code 1."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]

TOOLS = """import asyncio, subprocess, sys, time
def boom(q): raise ValueError("no luck")
def leave(q): sys.exit(3)
def hang(q): time.sleep(20)
async def hang_async(q): await asyncio.sleep(20)
def thing(q): return object()
def three(q): return 3
"""
PLACE = "x.loom:7:13"


def program(tool: str, result: str = "text", more: str = "") -> str:
    return f"""tool f(q: text) -> {result} {{
    {tool}
    timeout = 200ms
    {more}
}}
workflow go(q: text = "x") -> {result} {{
    let r = f(q)
    return r
}}
"""


def command(script: str) -> str:
    return f'command = ["sh", "-c", "{script}"]'


FAILURES = {
    "raises": (program('impl = "tools:boom"'), "raised ValueError: no luck ("),
    "exits": (program('impl = "tools:leave"'), "raised SystemExit: 3 ("),
    "hangs": (program('impl = "tools:hang"'), "took longer than 0.2 s"),
    "hangs, async": (program('impl = "tools:hang_async"'), "took longer than 0.2 s"),
    "wrong type": (program('impl = "tools:three"'), "gave 3 where a text is declared"),
    "no value at all": (program('impl = "tools:thing"'), "gave <object object at"),
    "retries": (
        program('impl = "tools:boom"', more="retries = 1"),
        "raised ValueError: no luck ({folder}/tools.py:2) (the last of 2 attempts)",
    ),
    "command fails": (
        program(command("echo oh no >&2; exit 3")),
        "exited with status 3 (sh): oh no",
    ),
    "command is killed": (program(command("kill -9 $$")), "was killed by signal 9 (sh)"),
    "command is not there": (
        program('command = ["no-such-command"]'),
        "could not start 'no-such-command': No such file or directory",
    ),
    "prints no JSON": (program(command("echo abc"), "int"), "gave 'abc' where an int is declared"),
    "prints bytes": (
        program('command = ["printf", "ab\\\\377"]'),
        "printed what is not UTF-8, at byte 2",
    ),
    "prints too much": (
        program('command = ["head", "-c", "1100000", "/dev/zero"]'),
        "printed more than 1000000 bytes",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failing_tool_is_told_at_its_call(run: Run, folder: Path, case: str) -> None:
    text, expected = FAILURES[case]
    Path("tools.py").write_text(TOOLS)
    Path("x.loom").write_text(text)
    code, out, err = run("run", "x.loom")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {PLACE}: tool 'f' ")
    assert err.count("\n") == 1
    assert expected.format(folder=folder) in err


def test_a_command_that_hangs_is_killed_with_its_children(
    run: Run, is_alive: Callable[[int], bool]
) -> None:
    Path("ids").touch()  # so that a failed run may be seen to leave no new file
    script = command("echo $$ > ids; sleep 60 & echo $! >> ids; sleep 60")
    Path("x.loom").write_text(program(script).replace("200ms", "1s"))
    code, _, err = run("run", "x.loom")
    assert code == 1
    assert err == f"error: {PLACE}: tool 'f' took longer than 1 s and was stopped\n"
    ids = [int(line) for line in Path("ids").read_text().split()]
    assert len(ids) == 2
    end_s = time.monotonic() + 2  # the kernel ends a killed process in its own time
    while any(map(is_alive, ids)):
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("raise ValueError('at import')", "ValueError: at import"),
        ("import sys; sys.exit(4)", "SystemExit: 4"),
        (None, "no module 'broken'"),
    ],
)
def test_a_tool_that_cannot_be_imported_is_warned_of_and_fails(
    run: Run, module: str | None, reason: str
) -> None:
    if module is not None:
        Path("broken.py").write_text(module)
    Path("x.loom").write_text(program('impl = "broken:f"'))
    code, _, err = run("run", "x.loom")
    assert code == 1
    assert "x.loom:2:5: warning: `broken` cannot be imported here" in err
    assert "error: x.loom:1:1: tool 'f': " in err
    assert reason in err


def test_an_assertion_that_fails_gives_its_message(run: Run) -> None:
    Path("x.loom").write_text(
        'workflow go(n: int = 3) -> int {\n    assert n > 5 else "too small"\n    return n\n}\n'
    )
    assert run("run", "x.loom") == (1, "", "error: x.loom:2:5: too small\n")


def test_a_context_that_overflows_at_run_time_has_its_place(run: Run) -> None:
    Path("long.txt").write_text("a" * 3000)
    Path("x.loom").write_text(
        'model m = "tiny"\nagent A { model = m }\nworkflow go(topic: text) -> text {\n'
        '    return A.ask("""Say {topic}""", max = 8)\n}\n'
    )
    code, out, err = run("run", "x.loom", "-i", "topic=@long.txt")
    assert (code, out) == (1, "")
    assert err.startswith("error: x.loom:4:12: the prompt has ")
    assert "holds 2048" in err
    assert "shorten what is interpolated" in err
