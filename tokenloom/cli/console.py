"""The two consoles: answers go to stdout, progress and errors to stderr."""

from __future__ import annotations

from functools import cache

from rich.console import Console


@cache
def output_console() -> Console:
    """Return the console of what was asked for."""
    return Console(highlight=False)


@cache
def error_console() -> Console:
    """Return the console of progress, warnings and errors."""
    return Console(stderr=True, highlight=False)
