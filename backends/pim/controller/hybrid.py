"""Attention over a sequence of which a part lies in computing layers, the rest in dense ones.

Units attend over what is near them, in FP16; the processor reads the rest and attends in float32;
the two merge exactly. How units attend is a function given from outside (`Attend`), by default the
arithmetic of the units in numpy. It moves no block and knows no time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.banks import Half
from tokenloom.backends.pim.controller.heterogeneous import HeterogeneousStack
from tokenloom.backends.pim.controller.kv_shape import BlockId
from tokenloom.backends.pim.controller.merge import PartialAttention, Single, merge_all
from tokenloom.backends.pim.geometry import StackGeometry
from tokenloom.backends.pim.layout import PAGE_TOKENS

Attend: TypeAlias = Callable[[Half, Half, Half], PartialAttention]
"""Attention of scaled queries [heads, dims] over keys and values [tokens, dims], at least one."""

SEGMENT_TOKENS = 256
"""Tokens whose probabilities are relative to one maximum: as many as one softmax of the base die,
and few enough for sums of probabilities in FP16."""


@dataclass(frozen=True)
class HybridResult:
    """Attention [heads, dims] in float32, and how many tokens each side attended over."""

    output: Single
    pim_tokens: int
    dense_tokens: int

    @property
    def pim_share(self) -> float:
        """The share of tokens whose attention ran near memory."""
        return self.pim_tokens / (self.pim_tokens + self.dense_tokens)


class HybridAttention:
    """Attention over blocks of a stack; `attend` is what its units do."""

    def __init__(self, controller: HeterogeneousStack, attend: Attend | None = None):
        self.controller = controller
        self._attend = attend or unit_attention(controller.layers.computing.geometry)

    def decode(self, query: Half, blocks: Sequence[BlockId], length: int) -> HybridResult:
        """Return attention of the query heads [heads, dims] that share one KV head.

        `blocks` are the sequence's in order, `length` its tokens: the last block may have fewer
        than 16. The query is scaled by 1 / sqrt(dims) and rounded to FP16, for both sides alike.
        DeviceError: no tokens, or more or fewer blocks than they need.
        """
        if length < 1 or len(blocks) != -(-length // PAGE_TOKENS):
            raise DeviceError(
                f"pim: {len(blocks)} blocks for {length} tokens; attention needs at least one"
                f" token, and a block for each {PAGE_TOKENS}"
            )
        scaled = (query.astype(np.float32) / sqrt(query.shape[-1])).astype(np.float16)
        keys, values = self.controller.read(blocks)
        near = np.array([self.controller.table.lookup(block).tier == "pim" for block in blocks])
        tokens = np.repeat(near, PAGE_TOKENS)[:length]
        keys, values = (part.reshape(-1, part.shape[-1])[:length] for part in (keys, values))
        parts = [
            attend(scaled, keys[mine], values[mine])
            for attend, mine in ((self._attend, tokens), (processor_attention, ~tokens))
            if mine.any()
        ]
        pim_tokens = int(tokens.sum())
        return HybridResult(merge_all(parts).normalized(), pim_tokens, length - pim_tokens)


def processor_attention(query: Half, keys: Half, values: Half) -> PartialAttention:
    """Attend in float32, as a processor does that reads keys and values over the bus."""
    scores = query.astype(np.float32) @ keys.astype(np.float32).T
    maximum: Single = scores.max(axis=-1)
    weights: Single = np.exp(scores - maximum[..., None])
    total: Single = weights.sum(axis=-1, dtype=np.float32)
    return PartialAttention(maximum, total, weights @ values.astype(np.float32))


def unit_attention(geometry: StackGeometry) -> Attend:
    """Return attention in the arithmetic of a stack's units, by numpy over all units at once.

    FP16, rounded after each multiply and each add. Scores: lanes of a column as a tree, columns of
    a bank one after the other, banks in float32 in the base die. Probabilities are rounded to FP16.
    Context: every slot adds over its tokens, slots are added in float32.
    """
    banks, lanes, slots = geometry.size("bank"), geometry.lanes, geometry.slots

    def attend(query: Half, keys: Half, values: Half) -> PartialAttention:
        tokens, dims = keys.shape
        chunk = banks * lanes
        padding = ((0, -tokens % SEGMENT_TOKENS), (0, -dims % chunk))
        keys, values = (np.pad(part, padding) for part in (keys, values))
        scores = _scores(np.pad(query, ((0, 0), padding[1])), keys, banks, lanes)
        scores[:, tokens:] = -np.inf
        segments = scores.reshape(len(query), -1, SEGMENT_TOKENS)
        maximum = segments.max(axis=-1)
        weights = np.exp(segments - maximum[..., None]).astype(np.float16)
        output = _context(weights, values, slots)[..., :dims]
        total = weights.sum(axis=-1, dtype=np.float32)
        return merge_all(
            PartialAttention(maximum[:, i], total[:, i], output[:, i])
            for i in range(segments.shape[1])
        )

    return attend


def _scores(query: Half, keys: Half, banks: int, lanes: int) -> Single:
    """Return the scores [heads, tokens] of keys [tokens, dims], dimensions padded to all banks."""
    products = query[:, None, :] * keys
    columns: Half = products.reshape(*products.shape[:2], -1, banks, lanes)
    while columns.shape[-1] > 1:
        half = columns.shape[-1] // 2
        columns = columns[..., :half] + columns[..., half:]
    sums = _added(columns[..., 0].transpose(2, 3, 0, 1))
    return _added(sums.astype(np.float32))


def _context(weights: Half, values: Half, slots: int) -> Single:
    """Return the weighted sums [heads, segments, dims] of weights [heads, segments, 256]."""
    heads, segments, tokens = weights.shape
    idle = (0, -tokens % slots)
    steps = (tokens + idle[1]) // slots
    padded = np.pad(weights, ((0, 0), (0, 0), idle))
    parts = padded.reshape(heads, segments, steps, slots, 1)
    rows = np.pad(values.reshape(segments, tokens, -1), ((0, 0), idle, (0, 0)))
    rows = rows.reshape(segments, steps, slots, -1)
    total = parts[:, :, 0] * rows[:, 0]
    for step in range(1, steps):
        total = total + parts[:, :, step] * rows[:, step]
    return _added(total.astype(np.float32).transpose(2, 0, 1, 3))


def _added(parts: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the parts of the leading axis added in order, rounding each sum to their type."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
