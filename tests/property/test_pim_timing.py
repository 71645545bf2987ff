"""Random streams on random stacks: what the event model times is legal, and the closed form agrees.

The checker that judges shares nothing with the event model.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.attacc_stream import attention_stream
from tokenloom.backends.pim.streams.commands import (
    ALL,
    LANES,
    ON,
    START,
    Command,
    CommandStream,
    Op,
)
from tokenloom.backends.pim.streams.rows import with_rows
from tokenloom.backends.pim.timing.checker import check
from tokenloom.backends.pim.timing.closed_form import attention_cycles
from tokenloom.backends.pim.timing.event_model import time_stream

MACHINES = ("attacc-hbm3", "hbm4-uniform", "hbm4-het-1of4", "hbm2-pim")
UNITS = (Op.MAC_TREE, Op.MAC_LANES, Op.MAC, Op.ADD, Op.MUL, Op.RELU, Op.LOAD, Op.STORE)
MOVES = (Op.WR_GB, Op.MV_GB, Op.MV_SB, Op.SFM, Op.GATHER, Op.BCAST, Op.DMA, Op.ROT)
SEEDS = st.integers(0, 2**32 - 1)
KINDS = (*UNITS, *MOVES, Op.RD, Op.WR, Op.BARRIER)


def stack_of(machine: str, level: str | None = None, power_cap: bool | None = None) -> PimStack:
    pim = load_machine(machine).pim
    assert pim is not None
    return pim.at(level, power_cap)


def random_stack(random: Random) -> PimStack:
    """Return a described stack with some of its timings changed."""
    stack = stack_of(random.choice(MACHINES))
    timing = stack.timing
    changed = replace(
        timing,
        rfc_cycles=random.choice([timing.rfc_cycles, 30, 0]),
        rfc_bank_cycles=random.randint(5, 40),
        refi_cycles=random.choice([timing.refi_cycles, 2500]),
        rtp_l_cycles=random.randint(1, 12) + timing.rtp_s_cycles,
        wr_cycles=random.randint(20, 32),
        rrd_l_cycles=random.randint(1, 12) + timing.rrd_s_cycles,
        faw_cycles=random.randint(1, 60),
        move_interval_cycles=random.randint(1, 12),
        write_interval_cycles=random.randint(12, 24),
        move_after_mac_cycles=random.randint(1, 12),
        move_after_switch_cycles=random.randint(1, 12),
        softmax_per_token_cycles=random.choice([0.0, 0.3, 2.0]),
    )
    level = random.choice(sorted(stack.levels))
    return replace(stack.at(level, random.choice([True, False])), timing=changed)


def random_stream(random: Random, stack: PimStack) -> CommandStream:
    """Return commands of all kinds in any order, on few rows, registers, entries and places."""
    channels = random.choice([(0,), (0, 1), (ALL,), (ALL, 1)])
    commands = [Command(Op.MODE, flags=ON)]
    for _ in range(random.randint(1, 60)):
        op = random.choice(KINDS)
        bank = ALL if stack.level != "buffer" else random.randint(0, 1)
        if op in UNITS and stack.unit.banks_per_unit > 1:
            bank = random.randint(0, 1)
        scope = [random.choice([ALL, 0]), *random.choice([(ALL, ALL), (0, ALL), (0, 1)]), bank]
        if op in (Op.RD, Op.WR):
            scope = [0, random.randrange(stack.sids), random.randint(0, 1), random.randint(0, 1)]
        places = {name: random.randint(0, 1) for name in ("row", "column", "dst", "src", "address")}
        places["address"] *= 32
        command = Command(
            op,
            random.choice(channels),
            *scope,
            **places,
            size=random.randint(1, 20),
            size_bytes=random.randint(0, 4096),
            flags=random.choice([0, START, LANES]),
        )
        commands += [command] * random.choice([1, 1, 1, 30])
    return CommandStream.of("random", "", [*commands, Command(Op.MODE)])


@settings(deadline=None, max_examples=120)
@given(SEEDS)
def test_what_the_event_model_times_is_legal(seed: int) -> None:
    random = Random(seed)
    stack = random_stack(random)
    stream = with_rows(random_stream(random, stack), stack)
    timed = time_stream(stream, stack)
    assert [str(violation) for violation in check(timed.stream, stack)] == []
    issued = timed.stream.records[timed.stream.records["op"] != Op.BARRIER]
    assert issued["cycle"].max() <= timed.cycles
    after = 4096 * stack.timing.rfc_cycles  # what is under way when the last command issues
    assert all(
        busy <= timed.channels * (timed.cycles + after) for busy in timed.busy_cycles.values()
    )


@settings(deadline=None, max_examples=60)
@given(SEEDS)
def test_no_command_of_a_head_could_come_a_cycle_earlier(seed: int) -> None:
    random = Random(seed)
    stack = random_stack(random)
    shape = random.randint(1, 60), random.randint(16, 64)
    stream = with_rows(attention_stream(stack, 1, *shape), stack)
    timed = time_stream(stream, stack, refresh=False).stream
    bound = np.flatnonzero(np.isin(timed.records["op"], [*UNITS, Op.ACT, Op.PRE, *MOVES]))
    index = random.choice(bound.tolist())
    cycles = timed.records["cycle"].copy()
    assert not check(timed, stack, refresh=False)
    cycles[index] -= 1
    assert check(timed.timed(cycles), stack, refresh=False)


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from(["attacc-hbm3", "hbm4-uniform"]),
    st.sampled_from(["bank", "bank-group"]),
    st.booleans(),
    st.one_of(st.integers(1, 300), st.integers(1, 8192)),
    st.integers(16, 160),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 1, 2, 4]),
)
def test_the_closed_form_of_one_head_is_the_event_model(
    machine: str, level: str, power_cap: bool, length: int, head_dim: int, size: int, queries: int
) -> None:
    stack = stack_of(machine, level, power_cap)
    shape = (stack, queries, length, head_dim, size)
    stream = with_rows(attention_stream(*shape, heads_per_kv=queries), stack)
    for refresh in (False, True):
        event = time_stream(stream, stack, refresh=refresh).cycles
        closed = attention_cycles(*shape, heads_per_kv=queries, refresh=refresh)
        assert closed == pytest.approx(event, rel=0.06 if queries > 1 else 0.01)
        if queries == 1 and not refresh:
            assert closed == event


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(MACHINES[:3]),
    st.sampled_from(["bank", "bank-group"]),
    st.integers(2, 5),
    st.integers(64, 2500),
    st.sampled_from([64, 80, 128]),
)
def test_the_closed_form_of_several_heads_is_close(
    machine: str, level: str, rounds: int, length: int, head_dim: int
) -> None:
    stack = stack_of(machine, level)
    heads = (rounds - 1) * stack.channels + 1
    stream = with_rows(attention_stream(stack, heads, length, head_dim), stack)
    event = time_stream(stream, stack).cycles
    assert attention_cycles(stack, heads, length, head_dim) == pytest.approx(event, rel=0.06)
