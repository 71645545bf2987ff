"""The command as a process: interrupts, closed pipes, what is left of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Start = Callable[..., "subprocess.Popen[str]"]
Lines = Callable[[str], list[str]]

INTERRUPTED = "Interrupted. Nothing was left running or half-written.\n"
SIGNALS = [signal.SIGINT, signal.SIGTERM]
ASK = """model m = "tiny"
agent A { model = m }
workflow go(topic: text = "x") -> text {
    return A.ask(\"\"\"Say {topic}\"\"\", max = 4)
}
"""
TOOL = 'tool f(q: text) -> text { %s }\nworkflow go(q: text = "x") -> text { return f(q) }\n'


def interrupt(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal; the command must end soon, with its message. Returns what was before it."""
    start_s = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - start_s < 5  # 0.5 s on an idle machine
    assert process.returncode == 1
    assert out == ""
    assert err.endswith(INTERRUPTED)
    assert "Traceback" not in err
    return err.removesuffix(INTERRUPTED)


@pytest.mark.parametrize("number", SIGNALS)
def test_compiling_is_interrupted_and_no_bundle_is_left(
    start: Start, lines_of: Lines, folder: Path, number: signal.Signals
) -> None:
    asks = "".join(f'    A.ask("""{i}""", max = 4)\n' for i in range(1500))
    Path("x.loom").write_text(ASK.replace("    return", asks + "    return"))
    process = start("compile", "x.loom", "-o", "b", "--dump-ir", "dump")
    lines_of("dump/00-build.mlir")
    assert interrupt(process, number) == ""
    assert sorted(path.name for path in folder.iterdir()) == ["dump", "x.loom"]


def test_the_import_of_a_tool_is_interrupted(start: Start, lines_of: Lines) -> None:
    Path("slow.py").write_text(
        "import pathlib, time\npathlib.Path('started').write_text('yes\\n')\ntime.sleep(60)\n"
    )
    Path("x.loom").write_text(TOOL % 'impl = "slow:f"')
    process = start("check", "x.loom")
    lines_of("started")
    assert interrupt(process, signal.SIGINT) == ""


PYTHON = """import os, subprocess
def f(q):
    child = subprocess.Popen(["sh", "-c", "sleep 60 & echo $! > ids; wait"])
    child.wait()
"""
HANGING = {
    "command": 'command = ["sh", "-c", "setsid sleep 60 & echo $! > ids; sleep 60"]',
    "impl": 'impl = "tools:f"',
}


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("kind", HANGING)
def test_a_tool_is_interrupted_and_no_process_is_left(
    start: Start,
    lines_of: Lines,
    is_alive: Callable[[int], bool],
    kind: str,
    number: signal.Signals,
) -> None:
    Path("tools.py").write_text(PYTHON)
    Path("x.loom").write_text(TOOL % HANGING[kind])
    process = start("run", "x.loom")
    (pid,) = map(int, lines_of("ids"))
    assert is_alive(pid)
    assert interrupt(process, number) == ""
    assert not is_alive(pid)


def test_a_python_tool_that_times_out_leaves_no_process(
    start: Start, lines_of: Lines, is_alive: Callable[[int], bool]
) -> None:
    Path("tools.py").write_text(PYTHON)
    Path("x.loom").write_text(TOOL % 'impl = "tools:f"\n    timeout = 1s')
    out, err = start("run", "x.loom").communicate(timeout=30)
    assert (out, err) == (
        "",
        "error: x.loom:3:45: tool 'f' took longer than 1 s and was given up\n",
    )
    (pid,) = map(int, lines_of("ids"))
    assert not is_alive(pid)


@pytest.mark.parametrize("number", SIGNALS)
def test_decoding_is_interrupted(start: Start, number: signal.Signals) -> None:
    Path("x.loom").write_text(
        ASK.replace("    return A.ask", '    let before = A.ask("a", max = 2)\n    return A.ask')
        .replace("max = 4", "max = 1900")
        .replace("{topic}", "{topic}{before}")
    )
    process = start("run", "x.loom")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("A  x.loom:4:18")  # so the second ask is next
    interrupt(process, number)


def test_a_reader_that_goes_early_sees_no_traceback(start: Start) -> None:
    Path("x.loom").write_text(ASK)
    process = start("plan", "x.loom", "--json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(20) == 1


def test_json_is_alone_on_stdout(start: Start) -> None:
    Path("loud.py").write_text(
        "import os\nprint('imported')\n"
        "def f(q):\n    print('called')\n    os.system('echo child')\n    return q\n"
    )
    text = ASK.replace("    return", '    let unused = 3\n    let r = f("v")\n    return')
    Path("x.loom").write_text(
        'tool f(q: text) -> text { impl = "loud:f" }\n' + text.replace("{topic}", "{topic}{r}")
    )
    process = start("run", "x.loom", "--json")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out.count("\n") == 1
    assert set(json.loads(out)) == {"result", "asks", "stats"}
    for part in ("x.loom:5:9: warning: ", "imported", "called", "child"):
        assert part in err


def test_a_bundle_runs_without_the_compiler(start: Start) -> None:
    Path("x.loom").write_text(ASK)
    assert start("compile", "x.loom", "-o", "b").wait(30) == 0
    code = (
        "import sys; from tokenloom import driver\n"
        "result = driver.run(driver.load('b'))\n"
        "print(len(result.asks))\n"
        "found = [n for n in sys.modules if n.split('.')[0] in ('lark', 'tvm', 'torch')"
        " or n.startswith('tokenloom.compiler')]\n"
        "print(found)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["1", "[]"]
