"""A head's attention as a command stream, executed by the interpreter, against float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import LANES, START, Command, CommandStream, Op
from tokenloom.backends.pim.streams.interpreter import interpret
from tokenloom.backends.pim.streams.rows import with_rows
from tokenloom.backends.pim.streams.stack_state import Arithmetic, StackState

Half = NDArray[np.float16]

STATS, RESULT, SCORES = 0, 1024, 2048
"""Places in the base die's memory; the query lies at STATS + 16."""
QUERY = STATS + 16


class Head:
    """One head in channel 1: keys from row 0, values from the first row behind them."""

    def __init__(self, stack: PimStack, length: int, head_dim: int):
        self.stack, self.length = stack, length
        self.slots = stack.pseudo_channels * stack.pim_sids * stack.bank_groups
        self.steps = -(-length // self.slots)
        self.chunks = -(-head_dim // (16 * stack.banks))
        self.value_row = -(-self.steps * self.chunks // stack.columns)

    def place(self, column: int, first_row: int) -> dict[str, int]:
        row, column = divmod(column, self.stack.columns)
        return {"channel": 1, "row": first_row + row, "column": column}

    def lay_out(self, state: StackState, tokens: Half, first_row: int, *, dims_outer: bool) -> None:
        """Token t goes to slot `t mod slots`, chunk c of 16 dimensions to bank `c mod banks`."""
        stack = self.stack
        padded = np.zeros((self.steps * self.slots, self.chunks, stack.banks, 16))
        flat = padded.reshape(len(padded), -1)
        flat[: self.length, : tokens.shape[1]] = tokens
        for token, chunk in np.ndindex(len(padded), self.chunks):
            step, slot = divmod(token, self.slots)
            order = chunk * self.steps + step if dims_outer else step * self.chunks + chunk
            at = self.place(order, first_row)
            upper, group = divmod(slot, stack.bank_groups)
            unit = 1, *divmod(upper, stack.pim_sids), group
            state.columns[unit][:, at["row"], at["column"]] = padded[token, chunk]

    def commands(self) -> list[Command]:
        banks, blocks = self.stack.banks, -(-self.steps // 16)
        found = [
            Command(Op.WR_GB, 1, bank=bank, src=chunk, address=QUERY + (chunk * banks + bank) * 16)
            for chunk, bank in np.ndindex(self.chunks, banks)
        ]
        for step in range(self.steps):
            for chunk in range(self.chunks):
                at = self.place(step * self.chunks + chunk, 0)
                start = 0 if chunk else START
                found.append(Command(Op.MAC_TREE, **at, src=chunk, lane=step % 16, flags=start))
            if step % 16 == 15 or step == self.steps - 1:
                found.append(Command(Op.MV_SB, 1, address=SCORES + step // 16 * 16 * self.slots))
        found.append(Command(Op.SFM, 1, address=SCORES, size=self.length, dst=STATS))
        found += [
            Command(Op.MV_GB, 1, src=self.chunks + k, address=SCORES + k * 16 * self.slots)
            for k in range(blocks)
        ]
        found.append(Command(Op.BARRIER, 1))
        for chunk in range(self.chunks):
            for step in range(self.steps):
                at = self.place(chunk * self.steps + step, self.value_row)
                start, src = 0 if step else START, self.chunks + step // 16
                found.append(
                    Command(Op.MAC_LANES, **at, dst=1 + chunk, src=src, lane=step % 16, flags=start)
                )
            target = RESULT + chunk * banks * 16
            found.append(Command(Op.MV_SB, 1, dst=1 + chunk, address=target, flags=LANES | START))
        return found


def attend(
    stack: PimStack, query: Half, keys: Half, values: Half, arithmetic: Arithmetic, *, rows: bool
) -> NDArray[np.float32]:
    head = Head(stack, len(keys), len(query))
    state = StackState(stack, arithmetic, base_elements=SCORES + (len(keys) + 512) * 2)
    head.lay_out(state, keys, 0, dims_outer=False)
    head.lay_out(state, values, head.value_row, dims_outer=True)
    state.base[QUERY : QUERY + len(query)] = query
    stream = CommandStream.of("head", "test", head.commands())
    interpret(with_rows(stream, stack) if rows else stream, state)
    return state.base[RESULT : RESULT + len(query)] / state.base[STATS + 1]


def exact(query: Half, keys: Half, values: Half) -> NDArray[np.float64]:
    scores = keys.astype(np.float64) @ query.astype(np.float64)
    weights = np.exp(scores - scores.max())
    return weights @ values.astype(np.float64) / weights.sum()


@pytest.mark.parametrize(("arithmetic", "tolerance"), [("fp16", 8e-3), ("float32", 1e-3)])
@pytest.mark.parametrize(
    ("length", "head_dim"), [(1, 64), (15, 16), (17, 128), (300, 80), (1000, 160)]
)
def test_attention_is_float64s_within_the_tolerance_of_fp16(
    stack: PimStack, length: int, head_dim: int, arithmetic: Arithmetic, tolerance: float
) -> None:
    random = np.random.default_rng(length)
    query = (random.standard_normal(head_dim) * head_dim**-0.5).astype(np.float16)
    keys, values = random.standard_normal((2, length, head_dim)).astype(np.float16)
    result = attend(stack, query, keys, values, arithmetic, rows=False)
    assert np.abs(result - exact(query, keys, values)).max() < tolerance


def test_rows_that_a_memory_controller_opens_change_no_value(stack: PimStack) -> None:
    random = np.random.default_rng(3)
    query = random.standard_normal(128).astype(np.float16)
    keys, values = random.standard_normal((2, 700, 128)).astype(np.float16)
    small = replace(stack, channels=2)
    with_open_rows = attend(small, query, keys, values, "fp16", rows=True)
    assert np.array_equal(with_open_rows, attend(small, query, keys, values, "fp16", rows=False))
