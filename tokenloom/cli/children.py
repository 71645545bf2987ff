"""No process outlives the command: not even what a tool written in Python has started.

Needs Linux; elsewhere only the processes of `command` tools are ended, which the runtime does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that they can be found."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_children() -> None:
    """Kill and reap every descendant; those of a killed one come to us and are next."""
    while found := _children(os.getpid()):
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except PermissionError:
                return  # it runs as another user: it is not ours any more
            with suppress(ChildProcessError):  # reaped by the thread that waited for it
                os.waitpid(pid, 0)


def _children(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in _read(file).split()]


def _read(file: Path) -> str:
    with suppress(OSError):  # a thread that has just ended
        return file.read_text()
    return ""
