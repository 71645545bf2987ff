from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tokenloom.runtime.errors import ToolError
from tokenloom.runtime.tools import ToolCall, ToolRunner, ToolSpec

TEXT = {"kind": "text"}
INT = {"kind": "int", "min": 0, "max": 10}
PLACE = "x.loom:3:5"

TOOLS = """
import asyncio, itertools, sys, threading, time
from dataclasses import dataclass

from neighbour import NAME

counter = itertools.count(1)

@dataclass
class Point:
    x: int

def double(n): return 2 * n
async def async_double(n):
    await asyncio.sleep(0)
    return 2 * n
def neighbour(): return NAME
def pair(): return ("a", "b")
def boom(): raise ValueError("no such page")
async def async_boom(): raise KeyError("k")
def quit(): sys.exit(3)
async def async_quit(): raise SystemExit(3)
def hang(): threading.Event().wait()
async def async_hang(): await asyncio.sleep(1000)
async def async_block(): time.sleep(3)
async def stubborn():
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass
def thing(): return Point(1)
def not_a_number(): return float("nan")
def third_time():
    if next(counter) < 3: raise OSError("not yet")
    return "at last"
def spoil(items):
    items.append("x")
    return len(items)
def show(word): return word
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    script = tmp_path / "project" / "scripts"
    script.mkdir(parents=True)
    package = tmp_path / "project" / "kit"
    package.mkdir()
    (package / "tools.py").write_text(TOOLS)
    (package / "neighbour.py").write_text("NAME = 'next door'")
    return script


def python(folder: Path, function: str, *params: str, **options: Any) -> ToolSpec:
    settings: dict[str, Any] = {"result": TEXT, "timeout_ns": 2_000_000_000, **options}
    return ToolSpec("t", params, directory=folder, impl=f"kit.tools:{function}", **settings)


def command(folder: Path, *arguments: str, **options: Any) -> ToolSpec:
    settings: dict[str, Any] = {
        "result": TEXT, "timeout_ns": 10_000_000_000, "params": (), **options
    }  # fmt: skip
    return ToolSpec("t", directory=folder, command=arguments, **settings)


def script(source: str) -> tuple[str, str, str]:
    return sys.executable, "-c", source.replace("{", "{{").replace("}", "}}")


async def with_runner(spec: ToolSpec, work: Callable[[ToolRunner], Awaitable[Any]]) -> Any:
    runner = ToolRunner({"t": spec}, first_pause_s=0.001)
    try:
        return await work(runner)
    finally:
        runner.close()


def call(spec: ToolSpec, *arguments: Any) -> Any:
    return asyncio.run(with_runner(spec, lambda runner: runner.call("t", arguments, PLACE)))


def failure(spec: ToolSpec, *arguments: Any) -> str:
    with pytest.raises(ToolError) as caught:
        call(spec, *arguments)
    assert caught.value.place == PLACE
    return caught.value.message


@pytest.mark.parametrize("function", ["double", "async_double"])
def test_a_callable_is_found_above_the_script_and_called_by_name(
    folder: Path, function: str
) -> None:
    before = list(sys.path)
    assert call(python(folder, function, "n", result=INT), 4) == 8
    assert sys.path == before
    assert not [name for name in sys.modules if name.startswith("_tokenloom_tools")]


def test_a_module_may_import_its_neighbour(folder: Path) -> None:
    assert call(python(folder, "neighbour")) == "next door"


def test_a_tuple_is_a_list_and_arguments_are_copies(folder: Path) -> None:
    assert call(python(folder, "pair", result={"kind": "list", "item": TEXT})) == ["a", "b"]
    items = ["a"]
    assert call(python(folder, "spoil", "items", result=INT), items) == 2
    assert items == ["a"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("boom", r"^tool 't' raised ValueError: no such page \(.*tools\.py:\d+\)$"),
        ("async_boom", r"^tool 't' raised KeyError: 'k'"),
        ("quit", r"^tool 't' raised SystemExit: 3"),
        ("async_quit", r"^tool 't' raised SystemExit: 3"),
        ("thing", r"^tool 't' gave Point\(x=1\) where a text is declared: it is of type Point"),
        ("absent", r"^tool 't' 'kit\.tools' has no function 'absent'"),
    ],
)
def test_a_failing_callable_names_tool_and_cause(folder: Path, function: str, message: str) -> None:
    with pytest.raises(ToolError, match=message.removeprefix("^")):
        call(python(folder, function))


@pytest.mark.parametrize("function", ["hang", "async_hang", "async_block", "stubborn"])
def test_a_callable_that_hangs_is_given_up(folder: Path, function: str) -> None:
    start = time.monotonic()
    message = failure(python(folder, function, timeout_ns=50_000_000))
    assert message == "tool 't' took longer than 0.05 s and was given up"
    assert time.monotonic() - start < 2
    assert all(t.daemon for t in threading.enumerate() if t.name in ("tool", "tools"))


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        ("double", INT, "gave 40 where an int in 0..10 is declared"),
        ("thing", INT, r"gave Point\(x=1\) where an int in 0..10 is declared"),
        ("not_a_number", {"kind": "float"}, "gave nan where a float is declared"),
        ("double", {"kind": "enum", "values": ["a"]}, 'gave 40 where one of "a" is declared'),
    ],
)
def test_garbage_says_what_came_and_what_was_declared(
    folder: Path, function: str, kind: Any, message: str
) -> None:
    params = ("n",) if function == "double" else ()
    with pytest.raises(ToolError, match=message):
        call(python(folder, function, *params, result=kind), *([20] if params else []))


def test_a_retry_may_succeed_but_effects_are_never_retried(folder: Path) -> None:
    assert call(python(folder, "third_time", retries=2)) == "at last"
    assert "the last of 2 attempts" in failure(python(folder, "third_time", retries=1))
    assert "attempts" not in failure(python(folder, "third_time", retries=9, is_effect=True))


def test_a_missing_module_is_found_out_before_the_run(folder: Path) -> None:
    spec = ToolSpec("t", (), TEXT, folder, 10**9, impl="nowhere.at_all:f", place="x.loom:1:1")
    runner = ToolRunner({"t": spec})
    with pytest.raises(ToolError, match=r"x.loom:1:1: tool 't': no module 'nowhere.at_all' in"):
        runner.check(["t"])


def test_a_command_gets_its_values_as_single_arguments(folder: Path) -> None:
    arguments = (*script("import sys; print(sys.argv[1:])"), "{word}", "--n={n}", "{{x}}")
    spec = command(folder, *arguments, params=("word", "n"))
    assert call(spec, "a b; $(rm) 'q' *", 2.0) == """["a b; $(rm) 'q' *", '--n=2.0', '{x}']"""


def test_a_command_runs_in_the_folder_without_stdin(folder: Path) -> None:
    spec = command(folder, *script("import os, sys; print(os.getcwd(), repr(sys.stdin.read()))"))
    assert call(spec) == f"{folder} ''"


def test_one_newline_at_the_end_is_removed(folder: Path) -> None:
    assert call(command(folder, "printf", "a\n\n")) == "a\n"


def test_output_is_json_unless_text_is_declared(folder: Path) -> None:
    fields = [["n", {"kind": "float"}], ["o", {"kind": "optional", "item": TEXT}]]
    kind = {"kind": "record", "fields": fields}
    assert call(command(folder, *script("print('{\"n\": 1}')"), result=kind)) == {
        "n": 1.0,
        "o": None,
    }
    assert call(command(folder, "echo", "for", result={"kind": "enum", "values": ["for"]})) == "for"
    message = failure(command(folder, "echo", "<html>", result=INT))
    assert message == "tool 't' gave '<html>' where an int in 0..10 is declared: it is no JSON"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import sys; sys.exit('no key')", "exited with status 1 (python): no key"),
        ("import os, signal; os.kill(os.getpid(), 9)", "killed by signal 9"),
        ("import os; os.write(1, b'ab\\xff')", "printed what is not UTF-8, at byte 2"),
        ("import os\nwhile True: os.write(1, b'a' * 65536)", "printed more than 1000000 bytes"),
    ],
)
def test_a_failing_command_says_how(folder: Path, source: str, message: str) -> None:
    shown = failure(command(folder, *script(source))).replace(sys.executable, "python")
    assert shown.startswith("tool 't' ")
    assert message in shown


def test_a_command_that_is_not_there(folder: Path) -> None:
    assert failure(command(folder, "no-such-command-anywhere")) == (
        "tool 't' could not start 'no-such-command-anywhere': No such file or directory"
    )


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def wait_for_pid(path: Path) -> int:
    deadline = time.monotonic() + 5
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(path.read_text())


def assert_dies(pid: int) -> None:
    deadline = time.monotonic() + 5
    while is_alive(pid):
        assert time.monotonic() < deadline
        os.sched_yield()


SPAWN = 'sleep 1000 & echo $! > "$0"; '


def test_a_command_that_hangs_is_killed_with_its_children(folder: Path) -> None:
    pid_file = folder / "pid"
    arguments = ("sh", "-c", SPAWN + "wait", str(pid_file))
    message = failure(command(folder, *arguments, timeout_ns=300_000_000))
    assert message == "tool 't' took longer than 0.3 s and was stopped"
    assert_dies(wait_for_pid(pid_file))


def test_what_a_command_leaves_behind_is_killed(folder: Path) -> None:
    pid_file = folder / "pid"
    assert call(command(folder, "sh", "-c", SPAWN + "echo done", str(pid_file))) == "done"
    assert_dies(wait_for_pid(pid_file))


def test_a_cancelled_command_is_killed(folder: Path) -> None:
    pid_file = folder / "pid"

    async def work(runner: ToolRunner) -> None:
        running = asyncio.create_task(runner.call("t", (), PLACE))
        await asyncio.to_thread(wait_for_pid, pid_file)
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()

    asyncio.run(with_runner(command(folder, "sh", "-c", SPAWN + "wait", str(pid_file)), work))
    assert_dies(wait_for_pid(pid_file))


def test_observers_see_start_and_end(folder: Path) -> None:
    seen: list[ToolCall] = []

    async def work() -> None:
        runner = ToolRunner({"t": python(folder, "boom")}, seen.append, seen.append)
        with pytest.raises(ToolError):
            await runner.call("t", (), PLACE)
        runner.close()

    asyncio.run(work())
    start, end = seen
    assert (start.id, start.tool, start.place, start.error) == (end.id, "t", PLACE, None)
    assert end.end_ns > end.start_ns == start.start_ns
    assert end.error is not None
    assert "no such page" in end.error
