"""Values that the functional stack computes, against numpy's bits, golden lanes and float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.controller.heterogeneous import HeterogeneousStack
from tokenloom.backends.pim.controller.hybrid import HybridAttention
from tokenloom.backends.pim.controller.kv_shape import BlockId, KvShape
from tokenloom.backends.pim.operations.elementwise import Operation, elementwise
from tokenloom.backends.pim.operations.gemv import gemv
from tokenloom.backends.pim.stack import PimStack
from tokenloom.bench.golden_gemv import accumulate, golden_gemv
from tokenloom.bench.report import ResultTable

Half = NDArray[np.float16]

ELEMENTS = 1_000_000
LENGTHS = (1, 15, 16, 17, 256, 257, 1000, 4096, 8192)
SHARES = (0.0, 0.3, 1.0)
HEAD_DIM = 128


def relu(x: Half) -> Half:
    """Return 0 where the sign bit is set: also for -0 and for a NaN with a sign."""
    return np.where(np.signbit(x), np.float16(0), x)


NUMPY: dict[Operation, Callable[..., Half]] = {"add": np.add, "mul": np.multiply, "relu": relu}


def tables(quick: bool) -> list[ResultTable]:
    """Return bits that differ, and errors of attention for every split between layers."""
    return [_bits(), _attention(LENGTHS[:6] if quick else LENGTHS)]


def stack_of(machine: str) -> PimStack:
    """Return the stack of a machine that has one."""
    stack = load_machine(machine).pim
    if stack is None:
        raise ValueError(f"machine {machine} has no stack")
    return stack


def _bits() -> ResultTable:
    table = ResultTable("FP16 values, to the last bit", ("kernel", "against", "values", "differ"))
    random = np.random.default_rng(0)
    for operation, expected in NUMPY.items():
        operands = [
            random.integers(0, 1 << 16, ELEMENTS, dtype=np.uint16).view(np.float16)
            for _ in range(1 if operation == "relu" else 2)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # every bit pattern is an operand
            reference = expected(*operands)
        found = elementwise(stack_of("hbm2-pim"), operation, *operands).values
        differ = int(np.sum(~_same_bits(found, reference)))
        row = (operation, "numpy float16, every bit pattern", f"{ELEMENTS:,}", f"{differ:,}")
        table.rows.append(row)
    golden = golden_gemv()
    lanes = gemv(stack_of("hbm2-pim"), golden.weights, golden.inputs).lanes
    once = accumulate(golden.weights, golden.inputs, fused=True)
    for name, reference in (("two roundings", golden.lanes), ("one rounding", once)):
        differ = int(np.sum(lanes != reference))
        row = ("GEMV 4096 x 1024", f"lanes, {name}", f"{lanes.size:,}", f"{differ:,}")
        table.rows.append(row)
    table.remarks.append("Bar: none differ, but for one rounding, where most must.")
    return table


def _same_bits(one: Half, other: Half) -> NDArray[np.bool_]:
    """Return where bits are equal; one NaN is as good as another."""
    return (one.view(np.uint16) == other.view(np.uint16)) | (np.isnan(one) & np.isnan(other))


def _attention(lengths: tuple[int, ...]) -> ResultTable:
    table = ResultTable(
        "Attention over computing and dense layers, largest error over largest output",
        ("L", *(f"{share:.0%} near memory" for share in SHARES)),
    )
    for length in lengths:
        errors = [f"{hybrid_error(length, share):.2e}" for share in SHARES]
        table.rows.append((f"{length:,}", *errors))
    table.remarks.append(
        "Against float64 on the same FP16 keys and values; bar: 7.8e-3, 16 units in the last place."
    )
    return table


def hybrid_error(length: int, share: float) -> float:
    """Return the error of attention with the first `share` of blocks in computing layers."""
    stack = stack_of("hbm4-het-1of4")
    rows = 192
    small = replace(stack, stacks=1, channels=1, rows=2 * rows, pim_rows=rows)
    controller = HeterogeneousStack(small, KvShape(1, 1, HEAD_DIM))
    count = -(-length // 16)
    blocks = [BlockId(0, 0, index) for index in range(count)]
    near = round(share * count)
    controller.allocate(blocks[:near], "pim")
    controller.allocate(blocks[near:], "dense")
    random = np.random.default_rng(length)
    keys, values = random.standard_normal((2, count, 16, HEAD_DIM)).astype(np.float16)
    controller.write(blocks, keys, values)
    query = random.standard_normal((2, HEAD_DIM)).astype(np.float16)
    found = HybridAttention(controller).decode(query, blocks, length).output
    scaled = (query.astype(np.float32) / np.sqrt(HEAD_DIM)).astype(np.float16).astype(np.float64)
    flat = [part.reshape(-1, HEAD_DIM)[:length].astype(np.float64) for part in (keys, values)]
    scores = scaled @ flat[0].T
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    exact = weights / weights.sum(axis=-1, keepdims=True) @ flat[1]
    return float(np.abs(found - exact).max() / np.abs(exact).max())
