"""The streams of compiled kernels keep every constraint of their stacks once they are timed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.operations.elementwise import Elementwise
from tokenloom.backends.pim.operations.gemv import Gemv
from tokenloom.backends.pim.operations.gemv_layout import GemvSchedule
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import CommandStream, Op
from tokenloom.backends.pim.streams.rows import with_rows
from tokenloom.backends.pim.streams.text import format_stream, parse_stream
from tokenloom.backends.pim.timing.checker import check
from tokenloom.backends.pim.timing.event_model import time_stream


def one_stack(name: str, level: str | None = None) -> PimStack:
    pim = load_machine(name).pim
    assert pim is not None
    return replace(pim, stacks=1).at(level)


def gemv_stream(stack: PimStack, schedule: GemvSchedule | None = None) -> CommandStream:
    return Gemv.load(stack, np.zeros((3000, 700), np.float16), schedule=schedule).stream()


@pytest.mark.parametrize(
    ("machine", "schedule"),
    [
        ("hbm2-pim", GemvSchedule(8, 8)),
        ("this-host-pim", GemvSchedule(8, 2)),
        ("this-host-pim", GemvSchedule(8, 8, "bank-group")),
        ("this-host-pim", GemvSchedule(8, 4, "buffer", banks_inner=True)),
        ("hbm4-uniform", GemvSchedule(8, 8)),
    ],
)
def test_a_timed_product_violates_nothing(machine: str, schedule: GemvSchedule):
    stack = one_stack(machine, schedule.level)
    timed = time_stream(with_rows(gemv_stream(stack, schedule), stack), stack)
    assert timed.stream.counts()["ACT"] > 1
    assert check(timed.stream, stack) == []


def test_a_product_that_multiplies_too_early_is_caught():
    stack = one_stack("hbm2-pim")
    timed = time_stream(with_rows(gemv_stream(stack), stack), stack).stream
    cycles = timed.records["cycle"].copy()
    last = np.flatnonzero(timed.records["op"] == Op.MAC)[-1]
    cycles[last] -= 1
    assert check(timed.timed(cycles), stack)


@pytest.mark.parametrize("machine", ["hbm2-pim", "this-host-pim"])
def test_timed_additions_violate_nothing(machine: str):
    stack = one_stack(machine)
    values = np.zeros(300_000, np.float16)
    stream = Elementwise.load(stack, "add", [values, values]).stream()
    timed = time_stream(with_rows(stream, stack), stack)
    assert check(timed.stream, stack) == []


def test_a_kernel_s_stream_reads_back_from_its_text():
    stream = gemv_stream(one_stack("hbm2-pim"))
    again = parse_stream(format_stream(stream))
    assert np.array_equal(again.records, stream.records)
