"""Ctrl-C during long synchronous work, such as compiling a script or loading a model.

Python raises KeyboardInterrupt wherever the main thread is; in a destructor or a callback from C
it is printed and lost, and the work goes on.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_kept() -> Generator[None]:
    """Raise KeyboardInterrupt at the end if one came inside and was lost on its way.

    Leaves any other handler of SIGINT than Python's own alone, and other threads.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if seen:
        raise KeyboardInterrupt
