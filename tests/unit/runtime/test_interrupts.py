from __future__ import annotations

import os
import signal

import pytest

from tokenloom.runtime.interrupts import interrupts_kept


class Interrupted:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # gives the handler a moment to run, here, where it is lost
            pass


def lose_an_interrupt(reached: list[str]) -> None:
    with interrupts_kept():
        victim = Interrupted()
        del victim
        reached.append("after it")


def raise_an_interrupt(reached: list[str]) -> None:
    with interrupts_kept():
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass
        reached.append("after it")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_lost_in_a_destructor_comes_at_the_end() -> None:
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        lose_an_interrupt(reached)
    assert reached == ["after it"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_is_raised_where_it_came() -> None:
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        raise_an_interrupt(reached)
    assert reached == []


def test_another_handler_is_left_alone() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts_kept():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
