"""The commands that the attention kernel writes: counts, cycles, and what they compute."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenloom.backends.device import DeviceError
from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.banks import BankArrays
from tokenloom.backends.pim.geometry import StackGeometry
from tokenloom.backends.pim.layout import KvLayout
from tokenloom.backends.pim.operations.attention_specs import Heads, attention_spec
from tokenloom.backends.pim.operations.kernel_stream import (
    AttentionTables,
    Pools,
    heads_stream,
    launch_stream,
)
from tokenloom.backends.pim.operations.native_kernels import compute
from tokenloom.backends.pim.operations.schedule import AttentionSchedule, default_schedule
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.attacc_stream import attention_stream
from tokenloom.backends.pim.streams.commands import CommandStream, Op
from tokenloom.backends.pim.streams.interpreter import interpret
from tokenloom.backends.pim.streams.overlap import HeadParts, overlapped
from tokenloom.backends.pim.streams.rows import with_rows
from tokenloom.backends.pim.streams.stack_state import StackState
from tokenloom.backends.pim.timing.event_model import time_stream

Floats = NDArray[Any]


@pytest.fixture
def attacc() -> PimStack:
    pim = load_machine("attacc-hbm3").pim
    assert pim is not None
    return pim


def whole(stack: PimStack, length: int) -> AttentionSchedule:
    """AttAcc's order: scores of all tokens, then their softmax, then context."""
    return AttentionSchedule(stack.level, True, max(1, -(-length // 256)))


def cycles(stream: CommandStream, stack: PimStack) -> int:
    return time_stream(with_rows(stream, stack), stack).cycles


@pytest.mark.parametrize(
    ("length", "capped", "wanted"),
    [(64, True, 177), (256, True, 465), (512, True, 930), (512, False, 682), (1024, True, 1890)],
)
def test_one_head_takes_the_cycles_of_attacc(
    attacc: PimStack, length: int, capped: bool, wanted: int
) -> None:
    """Reference cycles: notes on the AttAcc simulator, 128 dimensions, one head a channel."""
    stack = attacc.at("bank", capped)
    stream = heads_stream(stack, 16, length, 128, whole(stack, length))
    assert cycles(stream, stack) == wanted


@pytest.mark.parametrize(("heads", "length", "dim"), [(1, 300, 128), (5, 1000, 64), (32, 512, 128)])
def test_the_kernel_writes_as_many_commands_as_attacc(
    attacc: PimStack, heads: int, length: int, dim: int
) -> None:
    stack = attacc.at("bank", True)
    ours = heads_stream(stack, heads, length, dim, whole(stack, length))
    theirs = attention_stream(stack, heads, length, dim)
    assert ours.counts() == theirs.counts()
    assert cycles(ours, stack) == cycles(theirs, stack)


@pytest.mark.parametrize(("level", "tolerance"), [("bank-group", 0.008), ("buffer", 0.006)])
def test_other_levels_are_near_attacc(attacc: PimStack, level: str, tolerance: float) -> None:
    """Reference cycles at 256 tokens; scores of a bank wait for those of the group's others."""
    stack = attacc.at(level, True)
    stream = heads_stream(stack, 16, 256, 128, whole(stack, 256))
    wanted = {"bank-group": 1590, "buffer": 4158}[level]
    assert abs(cycles(stream, stack) - wanted) <= tolerance * wanted


def test_a_schedule_that_does_not_fit_is_refused(attacc: PimStack) -> None:
    with pytest.raises(DeviceError, match="needs 24 registers, a unit has 16"):
        heads_stream(attacc, 8, 64, 64, AttentionSchedule(heads_together=8), heads_per_kv=8)
    with pytest.raises(DeviceError, match="to divide the 3 query heads"):
        heads_stream(attacc, 3, 64, 64, AttentionSchedule(heads_together=2), heads_per_kv=3)


class Launch:
    """A small launch with its banks: what the compiled function and the interpreter work on."""

    def __init__(self, stack: PimStack, heads: Heads, length: int, pages: list[int], stripe: int):
        self.stack, self.heads, self.length = stack, heads, length
        random = np.random.default_rng(length)
        geometry = StackGeometry.of(stack)
        num_pages = max(pages) + 1
        self.layout = KvLayout(geometry, num_pages, heads.num_kv_heads, heads.head_dim, stripe)
        self.banks = BankArrays(geometry)
        rows = self.layout.num_rows
        self.pools = Pools(self.layout, 0, rows)
        shape = (num_pages, heads.num_kv_heads, 16, heads.head_dim)
        every = np.arange(num_pages)
        for first in (0, rows):
            data = random.standard_normal(shape).astype(np.float16)
            self.layout.scatter(self.banks.lanes[first : first + rows], every, data)
        whole = AttentionTables.contiguous(1, length)
        self.tables = replace(whole, pages=np.array(pages, np.int32))
        self.query = random.standard_normal((heads.num_heads, heads.head_dim)).astype(np.float32)

    def computed(self, schedule: AttentionSchedule) -> tuple[Floats, Floats]:
        """Return what the compiled function gives: output [heads, dim] and sums [heads, 2]."""
        heads, rows = self.heads, self.layout.num_rows
        qkv = np.zeros((1, heads.num_heads + 2 * heads.num_kv_heads, heads.head_dim), np.float32)
        qkv[0, : heads.num_heads] = self.query
        half = heads.head_dim // 2
        cos, sin = np.ones((self.length, half), np.float32), np.zeros((self.length, half))
        units = self.layout.units
        pools = [units(self.banks.lanes[first : first + rows]) for first in (0, rows)]
        out = np.zeros((1, heads.num_heads * heads.head_dim), np.float32)
        sums = np.zeros((1, heads.num_heads, 2), np.float32)
        flat = qkv.reshape(1, -1)
        arrays = [flat, *self.tables.arrays, cos, sin.astype(np.float32), *pools, out, sums]
        compute(attention_spec(self.stack, heads, schedule), arrays, (self.layout.stripe, 0, 1))
        return out.reshape(heads.num_heads, heads.head_dim), sums[0]

    def exact(self) -> Floats:
        """Return attention in float64, of queries as rounded to FP16."""
        heads, rows = self.heads, self.layout.num_rows
        pages = self.tables.pages.astype(np.int64)
        halves = [self.banks.lanes[first : first + rows] for first in (0, rows)]
        keys, values = (
            self.layout.gather(half, pages).swapaxes(1, 2).astype(np.float64) for half in halves
        )
        shape = (-1, heads.num_kv_heads, heads.head_dim)
        keys, values = keys.reshape(shape)[: self.length], values.reshape(shape)[: self.length]
        scaled = (self.query * np.float32(heads.head_dim**-0.5)).astype(np.float16)
        out = np.empty(self.query.shape)
        for head, query in enumerate(scaled.astype(np.float64)):
            scores = keys[:, head // heads.per_kv] @ query
            weights = np.exp(scores - scores.max())
            out[head] = weights @ values[:, head // heads.per_kv] / weights.sum()
        return out

    def stream(self, schedule: AttentionSchedule) -> CommandStream:
        return launch_stream(self.stack, self.heads, schedule, self.tables, self.pools)

    def interpreted(self, schedule: AttentionSchedule) -> tuple[Floats, Floats]:
        """Return what the interpreter makes of the commands, without the queries' rotation."""
        stream = self.stream(schedule)
        rotations = stream.records["op"] == Op.ROT
        state = StackState(self.stack, banks=self.banks, base_elements=1 << 18)
        scale = np.float32(self.heads.head_dim**-0.5)
        addresses = stream.records["address"][rotations]
        for address, query in zip(addresses, np.tile(self.query, (9, 1)), strict=False):
            state.base[address : address + len(query)] = (query * scale).astype(np.float16)
        kept = CommandStream("test", "", stream.records[~rotations])
        interpret(with_rows(kept, self.stack), state)
        softmaxes = stream.records[stream.records["op"] == Op.SFM]
        results = stream.records[stream.records["op"] == Op.MV_SB]
        starts = np.unique(results["address"][results["flags"] == 3])
        out = np.stack([state.base[start : start + 64] for start in starts])
        return out, np.stack([state.base[at : at + 2] for at in softmaxes["dst"]])


LENGTHS = (1, 2, 15, 16, 17, 255, 256, 257, 1000, 4096, 8192)


@pytest.mark.parametrize(
    ("head_dim", "per_kv"), [(64, 1), (64, 3), (80, 4), (96, 8), (128, 4), (160, 1)]
)
def test_attention_is_near_float64_for_every_length(
    stack: PimStack, head_dim: int, per_kv: int
) -> None:
    larger = replace(stack, rows=128, pim_rows=128)
    heads = Heads(per_kv, 1, head_dim)
    schedule = default_schedule(larger, head_dim, per_kv)
    for length in LENGTHS:
        pages = np.random.default_rng(length).permutation(-(-length // 16)).tolist()
        launch = Launch(larger, heads, length, pages, 16)
        got, wanted = launch.computed(schedule)[0], launch.exact()
        assert np.abs(got - wanted).max() <= 5e-3 * np.abs(wanted).max(), length


@pytest.mark.parametrize("slots", [(1, 1, 4), (2, 1, 2), (2, 2, 4)])
def test_stacks_of_fewer_slots_and_more_banks_compute_the_same(
    stack: PimStack, slots: tuple[int, int, int]
) -> None:
    """Pages take several steps where a channel has less than 16 bank groups that compute."""
    pseudo_channels, pim_sids, bank_groups = slots
    other = replace(
        stack, pseudo_channels=pseudo_channels, pim_sids=pim_sids, bank_groups=bank_groups, banks=8
    )
    launch = Launch(other, Heads(2, 1, 96), 300, list(range(19)), 4)
    schedule = AttentionSchedule(heads_together=1)
    got, wanted = launch.computed(schedule)[0], launch.exact()
    assert np.abs(got - wanted).max() <= 5e-3 * np.abs(wanted).max()
    assert np.array_equal(launch.computed(replace(schedule, level="bank-group"))[0], got)


@pytest.mark.parametrize("level", ["bank", "bank-group", "buffer"])
@pytest.mark.parametrize(
    ("length", "pages", "stripe"),
    [(100, [0, 1, 2, 3, 4, 5, 6], 8), (200, [9, 3, 4, 0, 12, 5, 1, 2, 8, 15, 14, 7, 6], 2)],
)
def test_the_commands_compute_what_the_compiled_function_computes(
    stack: PimStack, level: str, length: int, pages: list[int], stripe: int
) -> None:
    """Bit for bit: scores by their largest, and results before their division, also where pages
    of a phase lie in several channels and accumulators are carried."""
    launch = Launch(stack, Heads(3, 1, 64), length, pages, stripe)
    schedule = AttentionSchedule(level, heads_together=3)
    out, sums = launch.computed(schedule)
    got, state = launch.interpreted(schedule)
    assert np.array_equal(state[:, 0], sums[:, 0])
    assert np.allclose(state[:, 1], sums[:, 1], rtol=1e-3)
    assert np.allclose(got / sums[:, 1:], out, rtol=3e-2, atol=2e-3)


def test_values_are_the_same_bits_whatever_the_schedule_binds_to_commands(stack: PimStack) -> None:
    launch = Launch(stack, Heads(4, 1, 80), 600, list(range(40)), 16)
    schedules = [
        AttentionSchedule(level, pass_major, 2, together)
        for level in ("bank", "bank-group", "buffer")
        for pass_major, together in ((True, 2), (False, 1))
        if pass_major or level == "bank"
    ]
    results = [launch.computed(schedule)[0] for schedule in schedules]
    streams = [launch.stream(schedule) for schedule in schedules]
    assert all(np.array_equal(result, results[0]) for result in results)
    assert len({stream.records.tobytes() for stream in streams}) == len(schedules)


def test_segments_of_a_phase_change_what_is_rounded(stack: PimStack) -> None:
    """Both the values and the commands come from the schedule: a longer phase changes both."""
    launch = Launch(stack, Heads(1, 1, 64), 600, list(range(38)), 0)
    one, three = (AttentionSchedule(phase_segments=count) for count in (1, 3))
    assert not np.array_equal(launch.computed(one)[0], launch.computed(three)[0])
    counts = [launch.stream(schedule).counts() for schedule in (one, three)]
    assert [count["SFM"] for count in counts] == [3, 1]
    assert counts[0]["MAC_TREE"] == counts[1]["MAC_TREE"]


def test_the_default_schedule_takes_as_many_heads_as_fit(attacc: PimStack) -> None:
    together = {
        (dim, heads): default_schedule(attacc, dim, heads).heads_together
        for dim, heads in ((64, 3), (64, 8), (128, 4), (128, 8), (160, 8))
    }
    assert together == {(64, 3): 3, (64, 8): 4, (128, 4): 4, (128, 8): 4, (160, 8): 2}


@pytest.mark.parametrize("segments", [1, 3])
def test_heads_that_overlap_compute_the_same_in_less_time(stack: PimStack, segments: int) -> None:
    """Three requests in one channel: registers and operands of the second are its own."""
    one = replace(stack, stacks=1, channels=1)
    schedule, heads = AttentionSchedule(phase_segments=segments), Heads(1, 1, 128)
    launch = Launch(one, heads, 600, list(range(3 * 38)), 38)
    tables = AttentionTables.contiguous(3, 600)
    plain = launch_stream(one, heads, schedule, tables, launch.pools)
    paired = overlapped(plain, HeadParts.of(one, 128, schedule))
    memories: list[Floats] = []
    for stream in (plain, paired):
        state = StackState(one, banks=launch.banks, base_elements=1 << 18)
        rotations = stream.records["op"] == Op.ROT
        for number, address in enumerate(stream.records["address"][rotations]):
            query = np.random.default_rng(number).standard_normal(128)
            state.base[address : address + 128] = query.astype(np.float16)
        kept = CommandStream("test", "", stream.records[~rotations])
        interpret(with_rows(kept, one), state)
        memories.append(state.base)
    assert np.array_equal(memories[0], memories[1])
    without_barriers = [dict(stream.counts()) for stream in (plain, paired)]
    assert without_barriers[0].pop("BARRIER") != without_barriers[1].pop("BARRIER")
    assert without_barriers[0] == without_barriers[1]
    assert cycles(paired, one) < 0.97 * cycles(plain, one)


@pytest.mark.parametrize(("heads", "dim", "per_kv"), [(16, 64, 4), (32, 128, 2)])
def test_query_heads_of_a_kv_head_take_about_the_time_of_the_reference(
    attacc: PimStack, heads: int, dim: int, per_kv: int
) -> None:
    schedule = AttentionSchedule("bank", True, 2, per_kv)
    ours = heads_stream(attacc, heads, 512, dim, schedule, per_kv)
    theirs = attention_stream(attacc, heads, 512, dim, heads_per_kv=per_kv)
    assert ours.counts() == theirs.counts()
    assert cycles(ours, attacc) == pytest.approx(cycles(theirs, attacc), rel=0.06)
