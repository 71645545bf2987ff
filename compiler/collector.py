"""Python's garbage collector, kept out of the way while large trees and modules grow."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Generator[None]:
    """Keep the collector from going through a growing module again and again.

    Building 10,000 asks takes 5.5 s with it and 1.9 s without.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
