"""Running the command line: in this process where that is enough, as a process where it is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tokenloom.cli.main import run_command

DEADLINE_S = 30.0
"""For a loaded machine; nothing waits that long where all is well."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("TOKENLOOM_DEBUG", raising=False)
    return work


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command here: exit code, stdout, stderr. One that fails must leave nothing."""

    def run_here(*arguments: str) -> tuple[int, str, str]:
        files, children = files_in(folder), child_ids()
        capsys.readouterr()
        code = run_command(list(arguments))
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert child_ids() <= children
        if code:
            assert files_in(folder) == files
        return code, out, err

    return run_here


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the real command, in a session of its own and killed when the test is over."""
    started: list[subprocess.Popen[str]] = []

    def start_here(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tokenloom", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Where the tests run as a shell's background job, Ctrl-C is ignored from the start.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield start_here
    for process in started:
        with process:
            process.kill()


@pytest.fixture
def lines_of(folder: Path) -> Callable[[str], list[str]]:
    """Wait until a file is there and ends with a whole line; return its lines."""

    def wait(name: str) -> list[str]:
        path = folder / name
        end_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < end_s:
            if path.is_file() and (text := path.read_text()).endswith("\n"):
                return text.splitlines()
            time.sleep(0.01)
        raise AssertionError(f"{name} did not come")

    return wait


@pytest.fixture
def is_alive() -> Callable[[int], bool]:
    """Tell whether a process runs; one that waits to be reaped does not."""

    def look(pid: int) -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state not in "ZX"

    return look


def files_in(folder: Path) -> set[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*"))
    return {str(path) for path in found if "__pycache__" not in path.parts}


def child_ids() -> set[int]:
    """Return the processes that this one has started and that have not been reaped."""
    files = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(child) for file in files for child in file.read_text().split()}
