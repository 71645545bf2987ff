from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tokenloom.backends.device import DeviceError
from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.operations.gemv import Gemv
from tokenloom.backends.pim.operations.gemv_layout import GemvLayout, GemvSchedule
from tokenloom.backends.pim.operations.kernel_stream import heads_stream
from tokenloom.backends.pim.operations.schedule import AttentionSchedule, candidates
from tokenloom.backends.pim.operations.search import choose, search_attention, search_gemv
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.rows import with_rows
from tokenloom.backends.pim.timing.attention_model import schedule_cycles
from tokenloom.backends.pim.timing.event_model import time_stream
from tokenloom.backends.pim.timing.gemv_model import gemv_cycles


def one_stack(name: str, level: str | None = None) -> PimStack:
    pim = load_machine(name).pim
    assert pim is not None
    return replace(pim, stacks=1).at(level)


def gemv_event(stack: PimStack, layout: GemvLayout, schedule: GemvSchedule, refresh: bool) -> int:
    weights = np.zeros((layout.outputs, layout.inputs), np.float16)
    stream = Gemv.load(stack, weights, schedule=schedule).stream()
    return time_stream(with_rows(stream, stack), stack, refresh=refresh).cycles


@pytest.mark.parametrize("refresh", [False, True])
@pytest.mark.parametrize(
    ("machine", "outputs", "inputs", "schedule"),
    [
        ("hbm2-pim", 4096, 1024, GemvSchedule(8, 8)),
        ("hbm2-pim", 4096, 1024, GemvSchedule(8, 8, operand_inner=True)),
        ("this-host-pim", 20000, 500, GemvSchedule(8, 3)),
        ("this-host-pim", 4096, 1024, GemvSchedule(8, 8, "bank-group")),
        ("this-host-pim", 4096, 1024, GemvSchedule(4, 4, "bank-group", banks_inner=True)),
        ("this-host-pim", 4096, 1024, GemvSchedule(8, 8, "buffer")),
        ("hbm4-uniform", 4096, 1024, GemvSchedule(8, 8, "buffer", banks_inner=True)),
    ],
)
def test_the_closed_form_of_a_product_is_near_the_event_model(
    machine: str, outputs: int, inputs: int, schedule: GemvSchedule, refresh: bool
):
    stack = one_stack(machine, schedule.level)
    layout = GemvLayout.of(stack, outputs, inputs, schedule)
    event = gemv_event(stack, layout, schedule, refresh)
    assert abs(gemv_cycles(layout, schedule, refresh) / event - 1) < 0.06


@pytest.mark.parametrize("refresh", [False, True])
@pytest.mark.parametrize("outputs", [4096, 20000])
def test_the_closed_form_is_exact_for_units_at_banks_that_stay_in_few_rows(
    outputs: int, refresh: bool
):
    """20,000 outputs end just before the first refresh is due."""
    stack, schedule = one_stack("this-host-pim"), GemvSchedule(8, 4)
    layout = GemvLayout.of(stack, outputs, 500, schedule)
    event = gemv_event(stack, layout, schedule, refresh)
    assert gemv_cycles(layout, schedule, refresh) == event


def test_a_search_keeps_away_from_orders_that_reopen_rows():
    stack = one_stack("hbm2-pim")
    bad = GemvSchedule(8, 8, operand_inner=True)
    found = search_gemv(stack, 4096, 1024, refereed=1)
    worse = gemv_cycles(GemvLayout.of(stack, 4096, 1024, bad), bad)
    assert found.chosen.cycles * 2 < worse
    assert found.chosen.event_cycles is not None
    assert [one.event_cycles for one in found.runners_up] == [None] * 3


def test_a_search_lets_single_banks_take_turns():
    found = search_gemv(one_stack("this-host-pim", "buffer"), 4096, 1024, refereed=1)
    assert found.chosen.schedule.banks_inner


def test_a_product_without_any_schedule_says_what_it_takes(stack: PimStack):
    with pytest.raises(DeviceError, match=r"takes \d+ rows in each bank that computes"):
        search_gemv(stack, 30000, 2000)


def test_the_event_model_overrules_the_closed_form():
    closed = {"a": 10, "b": 11, "c": 12, "d": 50}
    timed = {"a": 15, "b": 12, "c": 13}
    found = choose(closed, closed.__getitem__, timed.__getitem__, 3)
    assert (found.chosen.schedule, found.chosen.closed_cycles, found.chosen.cycles) == ("b", 11, 12)
    assert [(one.schedule, one.event_cycles) for one in found.runners_up] == [
        ("c", 13),
        ("a", 15),
        ("d", None),
    ]
    assert found.reason == (
        "4 schedules by the closed form, the best 3 command by command; the next takes 8.3% more"
    )


def test_without_a_referee_the_closed_form_decides():
    closed = {"a": 10, "b": 10}
    found = choose(closed, closed.__getitem__, lambda _: 0, 0)
    assert found.chosen.event_cycles is None
    assert found.reason == "least of 2 schedules by the closed form; the next is as quick"


def test_a_single_schedule_is_no_choice():
    found = choose(["a"], lambda _: 1, lambda _: 1, 1)
    assert found.reason == "the only schedule that the units can run"


@pytest.mark.parametrize(
    ("machine", "heads", "length", "head_dim", "per_kv", "schedule"),
    [
        ("attacc-hbm3", 16, 2048, 128, 1, AttentionSchedule()),
        ("attacc-hbm3", 32, 2048, 128, 1, AttentionSchedule(phase_segments=8)),
        ("attacc-hbm3", 128, 1024, 128, 8, AttentionSchedule(heads_together=4)),
        ("this-host-pim", 9, 600, 64, 3, AttentionSchedule(phase_segments=2, heads_together=3)),
    ],
)
def test_the_closed_form_of_attention_by_schedule_is_near_the_event_model(
    machine: str,
    heads: int,
    length: int,
    head_dim: int,
    per_kv: int,
    schedule: AttentionSchedule,
):
    stack = one_stack(machine)
    stream = heads_stream(stack, heads, length, head_dim, schedule, per_kv)
    event = time_stream(with_rows(stream, stack), stack).cycles
    rounds = -(-heads // per_kv // stack.channels)
    closed = schedule_cycles(stack, rounds, length, head_dim, per_kv, schedule)
    assert abs(closed / event - 1) < 0.06


def test_softmax_of_segments_beats_that_of_the_whole_length_for_a_head_alone_in_its_channel():
    """AttAcc scores all tokens before its softmax, which a head without a partner waits for."""
    stack = one_stack("attacc-hbm3")
    found = search_attention(stack, 16, 2048, 128, refereed=0)
    whole = AttentionSchedule(phase_segments=8)
    assert whole in candidates(stack, 128, 1, 2048)
    assert found.chosen.cycles < schedule_cycles(stack, 1, 2048, 128, 1, whole)


def test_query_heads_that_share_a_kv_head_read_it_together():
    found = search_attention(one_stack("attacc-hbm3"), 128, 1024, 128, 8, refereed=0)
    assert found.chosen.schedule.heads_together > 1
