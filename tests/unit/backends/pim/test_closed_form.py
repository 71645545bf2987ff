from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.errors import StreamError
from tokenloom.backends.pim.operations.elementwise import Elementwise, Operation
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.attacc_stream import attention_stream
from tokenloom.backends.pim.streams.rows import with_rows
from tokenloom.backends.pim.timing.attention_shape import (
    attention_counts,
    attention_shape,
    shared_queries,
)
from tokenloom.backends.pim.timing.closed_form import attention_cycles, elementwise_cycles
from tokenloom.backends.pim.timing.event_model import time_stream


def stack_of(machine: str = "attacc-hbm3", level: str = "bank", power_cap: bool = True) -> PimStack:
    pim = load_machine(machine).pim
    assert pim is not None
    return pim.at(level, power_cap)


@pytest.mark.parametrize(
    ("length", "capped", "uncapped"),
    [
        (64, 177, 149),
        (128, 273, 213),
        (256, 465, 341),
        (512, 930, 682),
        (1024, 1890, 1394),
        (2048, 3810, 2818),
        (4096, 8088, 6104),
        (8192, 16644, 12238),
    ],
)
def test_one_head_equals_the_attacc_simulator(length: int, capped: int, uncapped: int) -> None:
    """Head dimension 128, FP16, bank level; 8192 by the formula fitted to its cycles."""
    for power_cap, cycles in ((True, capped), (False, uncapped)):
        stack = stack_of(power_cap=power_cap)
        assert attention_cycles(stack, 16, length, 128, compat="attacc") == cycles


@pytest.mark.parametrize(
    ("level", "length", "cycles"),
    [
        ("bank-group", 512, 3142),
        ("bank-group", 1024, 6719),
        ("bank-group", 4096, 27239),
        ("buffer", 512, 8765),
        ("buffer", 1024, 17981),
        ("buffer", 4096, 72801),
    ],
)
def test_other_levels_are_close_to_the_attacc_simulator(
    level: str, length: int, cycles: int
) -> None:
    found = attention_cycles(stack_of(level=level), 1, length, 128, compat="attacc")
    assert found == pytest.approx(cycles, rel=0.001)


@pytest.mark.parametrize(
    ("length", "capped", "uncapped"),
    [(64, 315, 269), (256, 889, 641), (1024, 3711, 2719), (2048, 7861, 5877), (4096, 16297, 11913)],
)
def test_two_heads_of_a_channel_overlap_as_in_the_simulator(
    length: int, capped: int, uncapped: int
) -> None:
    for power_cap, cycles in ((True, capped), (False, uncapped)):
        found = attention_cycles(stack_of(power_cap=power_cap), 32, length, 128, compat="attacc")
        assert found == pytest.approx(cycles, rel=0.036)


def test_many_heads_take_as_long_each_as_a_few() -> None:
    stack = stack_of()
    few, many = (attention_cycles(stack, 16 * heads, 512, 128) for heads in (16, 1600))
    assert many == pytest.approx(100 * few, rel=0.01)


@pytest.mark.parametrize("level", ["bank", "bank-group", "buffer"])
@pytest.mark.parametrize(("heads", "per_kv"), [(1, 1), (16, 1), (35, 1), (64, 1), (24, 8), (40, 5)])
def test_counts_and_bytes_are_those_of_the_stream(level: str, heads: int, per_kv: int) -> None:
    stack = stack_of(level=level)
    for length, head_dim, element_bytes in ((700, 96, 2), (64, 128, 1)):
        stream = attention_stream(
            stack, heads, length, head_dim, element_bytes, heads_per_kv=per_kv
        )
        counts = attention_counts(stack, heads, length, head_dim, element_bytes, per_kv)
        assert dict(counts.commands) == stream.counts()
        assert counts.unit_bytes + counts.moved_bytes == int(stream.records["size_bytes"].sum())


def test_units_read_keys_and_values_once_for_each_query() -> None:
    for level in ("bank", "bank-group", "buffer"):
        counts = attention_counts(stack_of(level=level), 130, 2048, 128)
        assert counts.unit_bytes == 2 * 2048 * 128 * 2 * 130


@pytest.mark.parametrize(
    ("per_kv", "together"), [(8, 8), (16, 8), (5, 5), (9, 9), (22, 2), (31, 1)]
)
def test_query_heads_share_a_kv_head_as_far_as_units_have_room(per_kv: int, together: int) -> None:
    stack = stack_of()
    assert shared_queries(stack, 128, 2, per_kv) == together
    shared = attention_cycles(stack, per_kv, 1024, 128, heads_per_kv=per_kv)
    in_turn = replace(stack, channels=1)  # all sets pass where K and V of the head lie
    assert shared == attention_cycles(in_turn, per_kv, 1024, 128, heads_per_kv=together)
    assert shared == attention_cycles(stack, 16 * per_kv, 1024, 128, heads_per_kv=per_kv)


def test_a_query_that_units_cannot_hold_is_refused() -> None:
    with pytest.raises(StreamError, match="need more than the 8 registers and 8 operand entries"):
        attention_shape(stack_of("hbm2-pim"), 64, 160)


def test_the_closed_form_follows_refreshes_as_the_event_model_has_them() -> None:
    stack = stack_of()
    for length in (2700, 2716, 2732, 4096, 8192):
        stream = with_rows(attention_stream(stack, 1, length, 128), stack)
        assert attention_cycles(stack, 1, length, 128) == time_stream(stream, stack).cycles


@pytest.mark.parametrize("refresh", [False, True])
@pytest.mark.parametrize("operation", ["add", "relu"])
@pytest.mark.parametrize(
    ("machine", "level", "error"),
    [
        ("attacc-hbm3", "bank", 0),
        ("attacc-hbm3", "bank-group", 0),
        ("attacc-hbm3", "buffer", 0.01),
        ("hbm2-pim", "bank", 0),
        ("hbm4-uniform", "bank-group", 0),
    ],
)
def test_element_wise_operations_take_what_their_stream_takes(
    machine: str, level: str, error: float, operation: Operation, refresh: bool
) -> None:
    stack = replace(stack_of(machine, level), stacks=1)
    for elements in (100_000, 1 << 20):
        operands = [np.zeros(elements, np.float16)] * (1 if operation == "relu" else 2)
        stream = Elementwise.load(stack, operation, operands).stream()
        event = time_stream(with_rows(stream, stack), stack, refresh=refresh).cycles
        closed = elementwise_cycles(stack, elements, len(operands), refresh=refresh)
        assert abs(closed - event) <= error * event
