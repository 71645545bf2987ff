"""The two consoles: answers go to stdout, progress and errors to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout
from functools import cache

from rich.console import Console

FILE_WIDTH = 160
"""Columns that a table may take where no terminal cuts it."""


@cache
def output_console() -> Console:
    """Return the console of what was asked for."""
    return _plain(stderr=False)


@cache
def table_console() -> Console:
    """Return the console of wide tables: a file or a pipe gets lines as long as they need."""
    console = _plain(stderr=False)
    if not console.is_terminal:
        console.width = max(console.width, FILE_WIDTH)
    return console


@cache
def error_console() -> Console:
    """Return the console of progress, warnings and errors."""
    return _plain(stderr=True)


def _plain(*, stderr: bool) -> Console:
    # A place such as `x.loom:100:9` must not become an emoji, nor a list in a text a style.
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


@contextmanager
def stdout_for_results() -> Generator[None]:
    """Send to stderr what a user's tools and their processes print: scripts read stdout."""
    if sys.stdout is None or sys.stderr is None:  # closed by the caller
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
