from __future__ import annotations

import pytest

from tokenloom.backends.device import DeviceError
from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.paths import one_stack
from tokenloom.backends.pim.report import AttentionQuestion, report
from tokenloom.backends.pim.stack import LEVELS, PimStack


@pytest.fixture
def attacc() -> PimStack:
    """One stack of 16 GiB."""
    stack = load_machine("attacc-hbm3").pim
    assert stack is not None
    return one_stack(stack)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "asked",
    [
        AttentionQuestion(1, 1, 64, 128),
        AttentionQuestion(20, 5, 100, 80),
        AttentionQuestion(17, 17, 33, 64, element_bytes=1),
    ],
)
def test_the_closed_form_counts_what_the_stream_has(
    attacc: PimStack, level: str, asked: AttentionQuestion
) -> None:
    stack = attacc.at(level)
    closed = asked.in_closed_form(stack)
    counted = report(asked.timed(stack), stack, asked.element_bytes)
    rows = {"ACT", "PRE", "REF"}
    assert closed.commands == {k: n for k, n in counted.commands.items() if k not in rows}
    assert (closed.unit_bytes, closed.moved_bytes) == (counted.unit_bytes, counted.moved_bytes)
    assert closed.energy.dynamic == pytest.approx(counted.energy.dynamic)


def test_heads_of_all_channels_are_counted_whether_or_not_they_are_timed_once(
    attacc: PimStack,
) -> None:
    one, all_of_them = (
        report(AttentionQuestion(heads, heads, 64, 128).timed(attacc), attacc, 2)
        for heads in (1, 16)
    )
    assert all_of_them.cycles == one.cycles
    assert all_of_them.commands == {name: 16 * count for name, count in one.commands.items()}
    assert all_of_them.unit_bytes == 16 * one.unit_bytes
    assert all_of_them.unit_bytes_per_s == pytest.approx(16 * one.unit_bytes_per_s)


def test_what_does_not_fit_is_refused_before_it_is_timed(attacc: PimStack) -> None:
    asked = AttentionQuestion(16, 16, 3_000_000, 128)
    for ask in (asked.timed, asked.in_closed_form):
        with pytest.raises(DeviceError, match="at most 2,097,152 tokens do"):
            ask(attacc)
