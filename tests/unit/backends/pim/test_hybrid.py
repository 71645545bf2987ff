from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.controller.heterogeneous import HeterogeneousStack
from tokenloom.backends.pim.controller.hybrid import (
    HybridAttention,
    HybridResult,
    processor_attention,
    unit_attention,
)
from tokenloom.backends.pim.controller.kv_shape import BlockId, Format, KvShape
from tokenloom.backends.pim.controller.merge import PartialAttention
from tokenloom.backends.pim.geometry import StackGeometry
from tokenloom.backends.pim.stack import PimStack

from .heterogeneous import small_hbm4, small_stack

Floats = NDArray[Any]
TOLERANCE = 2**-7
"""Of the largest output: sixteen units in FP16's last place (2**-11), as scores are rounded too."""


class Sequence64:
    """Keys and values of one head in a stack, and their attention in float64."""

    def __init__(self, length: int, stack: PimStack, dims: int = 128, heads: int = 2):
        random = np.random.default_rng(length)
        self.length, self.dims = length, dims
        self.blocks = [BlockId(0, 0, index) for index in range(-(-length // 16))]
        shape = (2, len(self.blocks), 16, dims)
        keys, values = np.clip(random.standard_normal(shape) * 2, -10, 10).astype(np.float16)
        keys.reshape(-1, dims)[length:] = 1000
        self.keys, self.values = keys, values
        self.query = (random.standard_normal((heads, dims)) * 2).astype(np.float16)
        self.controller = HeterogeneousStack(stack, KvShape(1, 1, dims))
        self.controller.allocate(self.blocks)
        self.controller.write(self.blocks, keys, values)

    def promote(self, chosen: Sequence[int], form: Format = "fp16") -> None:
        blocks = [self.blocks[index] for index in chosen]
        self.controller.migrate(blocks, "pim", form)

    def attend(self) -> HybridResult:
        return HybridAttention(self.controller).decode(self.query, self.blocks, self.length)

    @property
    def wanted(self) -> Floats:
        keys, values = (
            x.reshape(-1, self.dims)[: self.length].astype(np.float64)
            for x in (self.keys, self.values)
        )
        scores = self.query.astype(np.float64) @ keys.T / sqrt(self.dims)
        weights = np.exp(scores - scores.max(1, keepdims=True))
        return weights @ values / weights.sum(1, keepdims=True)

    def error(self, result: HybridResult) -> float:
        return float(np.abs(result.output - self.wanted).max() / np.abs(self.wanted).max())


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 255, 256, 257, 1000, 2048, 4095, 8192])
def test_attention_is_near_float64_at_every_split(length: int) -> None:
    sequence = Sequence64(length, small_hbm4(rows=544))
    count = len(sequence.blocks)
    assert sequence.error(sequence.attend()) <= TOLERANCE
    cuts = sorted({0, 1, count // 3, count - 1, count})
    for start, stop in pairwise(cuts):
        sequence.promote(range(start, stop))
        result = sequence.attend()
        assert result.pim_tokens == min(16 * stop, length)
        assert result.pim_tokens + result.dense_tokens == length
        assert sequence.error(result) <= TOLERANCE
    assert sequence.attend().pim_share == 1


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 700), st.data())
def test_any_set_of_blocks_may_be_near(length: int, data: st.DataObject) -> None:
    stack = data.draw(st.sampled_from([small_stack(128), small_hbm4("hbm4-het-2of4", 64)]))
    sequence = Sequence64(length, stack, data.draw(st.sampled_from([16, 64, 80, 128])))
    indices = st.integers(0, len(sequence.blocks) - 1)
    sequence.promote(sorted(data.draw(st.sets(indices))))
    assert sequence.error(sequence.attend()) <= TOLERANCE


def test_int8_in_either_kind_of_layers_stays_near() -> None:
    sequence = Sequence64(500, small_stack(64))
    sequence.promote(range(10), "int8")
    sequence.controller.migrate(sequence.blocks[20:], "dense", "int8")
    result = sequence.attend()
    assert sequence.error(result) <= 0.02
    exact = sequence.wanted
    sequence.keys, sequence.values = sequence.controller.read(sequence.blocks)
    assert not np.array_equal(exact, sequence.wanted)
    assert sequence.error(result) <= TOLERANCE


def test_the_units_attention_is_what_was_given() -> None:
    sequence = Sequence64(40, small_stack())
    sequence.promote([0, 1])
    seen: list[tuple[int, ...]] = []

    def attend(query: Floats, keys: Floats, values: Floats) -> PartialAttention:
        seen.append((*query.shape, *keys.shape, *values.shape))
        return processor_attention(query, keys, values)

    result = HybridAttention(sequence.controller, attend).decode(
        sequence.query, sequence.blocks, 40
    )
    assert seen == [(2, 128, 32, 128, 32, 128)]
    assert sequence.error(result) <= TOLERANCE


def half(value: object) -> np.float16:
    return np.float16(value)  # pyright: ignore[reportArgumentType]


def one_by_one(query: Floats, keys: Floats, values: Floats, geometry: StackGeometry) -> Floats:
    """One segment of one head in the units' arithmetic, a number at a time."""
    tokens, dims = keys.shape
    banks, lanes, slots = geometry.size("bank"), geometry.lanes, geometry.slots
    scores: list[np.float32] = []
    for token in range(tokens):
        score = np.float32(0)
        for bank in range(banks):
            register = half(0)
            for start in range(bank * lanes, dims, banks * lanes):
                tree = [half(query[d] * keys[token, d]) for d in range(start, start + lanes)]
                while len(tree) > 1:
                    pairs = zip(tree, tree[len(tree) // 2 :], strict=False)
                    tree = [half(a + b) for a, b in pairs]
                register = half(register + tree[0])
            score = np.float32(score + np.float32(register))
        scores.append(score)
    weights = np.exp(np.array(scores) - max(scores)).astype(np.float16)
    output = np.zeros(dims, np.float32)
    for dim in range(dims):
        for slot in range(slots):
            register = half(0)
            for token in range(slot, tokens, slots):
                register = half(register + half(weights[token] * values[token, dim]))
            output[dim] = np.float32(output[dim] + np.float32(register))
    return output


@pytest.mark.parametrize("dims", [64, 128])
@pytest.mark.parametrize("slots_of", ["hbm3", "12 slots"])
def test_the_units_round_after_each_multiply_and_each_add(dims: int, slots_of: str) -> None:
    geometry = StackGeometry.computing(small_stack())
    if slots_of == "12 slots":
        sizes = (1, 1, 1, 3, 4, 4, 8, 32)
        geometry = StackGeometry(sizes, 3, geometry.column_bytes, geometry.lanes)
        assert geometry.slots == 12
    random = np.random.default_rng(dims)
    query, keys, values = random.standard_normal((3, 40, dims)).astype(np.float16)
    part = unit_attention(geometry)(query[:1], keys, values)
    assert np.array_equal(part.output[0], one_by_one(query[0], keys, values, geometry))


def test_blocks_that_do_not_fit_the_length_are_refused() -> None:
    sequence = Sequence64(40, small_stack())
    attention = HybridAttention(sequence.controller)
    for count, length in ((3, 49), (3, 32), (0, 0)):
        with pytest.raises(DeviceError, match=f"{count} blocks for {length} tokens"):
            attention.decode(sequence.query, sequence.blocks[:count], length)
