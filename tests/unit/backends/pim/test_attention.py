"""What the stack computes: against float64, and to the bit against a model of its arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenloom.backends.device import Argument, Buffer, DeviceError
from tokenloom.backends.pim.controller.merge import PartialAttention, merge
from tokenloom.backends.pim.device import PimDevice
from tokenloom.kernel_spec import KernelSpec

HEADS, KV_HEADS, GROUP = 6, 2, 3
POSITIONS = 2304

Floats = NDArray[Any]


def spec(op: str, head_dim: int) -> KernelSpec:
    heads = {"num_heads": HEADS, "num_kv_heads": KV_HEADS}
    dims = {**heads, "head_dim": head_dim, "page_tokens": 16}
    return KernelSpec(op, tuple(sorted(dims.items())), device="pim")


def put(pim: PimDevice, data: Floats) -> Buffer:
    buffer = pim.allocate(data.shape, str(data.dtype))
    pim.write(buffer, data)
    return buffer


def angles(positions: NDArray[np.int64], half: int) -> Floats:
    return positions[:, None] * np.power(10000.0, -np.arange(half) / half)


def rotate(x: Floats, positions: NDArray[np.int64]) -> Floats:
    """Rotate heads [n, heads, dim] in float64, half-split."""
    half = x.shape[-1] // 2
    turns = angles(positions, half)[:, None]
    low, high = x[..., :half], x[..., half:]
    cos, sin = np.cos(turns), np.sin(turns)
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], -1)


@dataclass
class Table:
    """The page table of one request: whole pages unless `lengths` says less."""

    pages: list[int]
    length: int
    frames: list[int] = field(default_factory=list[int])
    starts: list[int] = field(default_factory=list[int])
    """Where each page stands in the sequence, in pages; by default they follow each other."""

    def columns(self) -> list[list[int]]:
        starts = [16 * index for index in self.starts or range(len(self.pages))]
        lengths = [min(16, self.length - start) for start in starts]
        return [self.pages, self.frames or [0] * len(self.pages), starts, lengths]


class Layer:
    """Pools of one layer on the device, and the calls that use them."""

    def __init__(self, pim: PimDevice, head_dim: int, num_pages: int):
        self.pim, self.head_dim = pim, head_dim
        self.keys = pim.allocate((num_pages, KV_HEADS, head_dim, 16), "float16", "pim")
        self.values = pim.allocate((num_pages, KV_HEADS, 16, head_dim), "float16", "pim")
        half = head_dim // 2
        turns = angles(np.arange(POSITIONS), half)
        self.tables = [put(pim, f(turns).astype(np.float32)) for f in (np.cos, np.sin)]

    def append(self, qkv: Floats, positions: NDArray[np.int64], slots: NDArray[np.int64]) -> None:
        kernel = self.pim.load(spec("kv_append", self.head_dim))
        rows = [put(self.pim, x.astype(np.int32)) for x in (positions, slots)]
        buffers = [put(self.pim, qkv), *rows, *self.tables, self.keys, self.values]
        self.pim.launch(kernel, [*buffers, len(qkv)])

    def attend(
        self,
        qkv: Floats,
        positions: NDArray[np.int64],
        tables: list[Table],
        requests: NDArray[np.int64],
        op: str = "attention_decode",
    ) -> Floats:
        buffers = self.arguments(qkv, positions, tables, requests)
        self.pim.launch(self.pim.load(spec(op, self.head_dim)), buffers)
        out = buffers[-3]
        assert isinstance(out, Buffer)
        return self.pim.read(out).reshape(len(qkv), HEADS, self.head_dim)

    def arguments(
        self, qkv: Floats, positions: Floats, tables: list[Table], requests: Floats
    ) -> list[Argument]:
        """Return the arguments of attention on all rows."""
        offsets = np.cumsum([0, *[len(table.pages) for table in tables]])
        columns = zip(*[table.columns() for table in tables], strict=True)
        arrays = [positions, requests, offsets, *[np.concatenate(part) for part in columns]]
        indices = [put(self.pim, array.astype(np.int32)) for array in arrays]
        out = self.pim.allocate((len(qkv), HEADS * self.head_dim), "float32")
        buffers = [put(self.pim, qkv), *indices, *self.tables, self.keys, self.values, out]
        return [*buffers, 0, len(qkv)]


def reference(qkv: Floats, query: NDArray[np.int64], dim: int, length: NDArray[np.int64]) -> Floats:
    """Return float64 attention of rows `query` over the first `length` rows each."""
    heads = qkv.astype(np.float64).reshape(len(qkv), -1, dim)
    positions = np.arange(len(qkv))
    rotated = rotate(heads[:, : HEADS + KV_HEADS], positions)
    out = np.zeros((len(query), HEADS, dim))
    for index, (row, count) in enumerate(zip(query, length, strict=True)):
        for head in range(HEADS):
            keys = rotated[:count, HEADS + head // GROUP]
            scores = keys @ rotated[row, head] / np.sqrt(dim)
            weights = np.exp(scores - scores.max())
            values = heads[:count, HEADS + KV_HEADS + head // GROUP]
            out[index, head] = weights @ values / weights.sum()
    return out


@pytest.mark.parametrize("head_dim", [16, 64, 80, 128])
@pytest.mark.parametrize("context", [1, 16, 17, 300, 2048])
def test_attention_is_near_float64(pim: PimDevice, head_dim: int, context: int) -> None:
    random = np.random.default_rng(context)
    width = (HEADS + 2 * KV_HEADS) * head_dim
    qkv = np.clip(random.standard_normal((context, width)) * 3, -10, 10).astype(np.float32)
    num_pages = -(-context // 16)
    pages = random.permutation(num_pages)
    layer = Layer(pim, head_dim, num_pages)
    rows = np.arange(context)
    layer.append(qkv, rows, pages[rows // 16] * 16 + rows % 16)
    last = rows[-1:]
    table = Table(pages.tolist(), context)
    got = layer.attend(qkv[last], last, [table], np.zeros(1, np.int64))
    wanted = reference(qkv, last, head_dim, last + 1)
    assert np.abs(got - wanted).max() <= 2e-2 * np.abs(wanted).max()


def model(query: Floats, keys: Floats, values: Floats, fused: bool) -> Floats:
    """Return one head's context over one segment, in the arithmetic of the banks.

    `fused` rounds a multiply-accumulate of the context once: what the banks do not do.
    """
    tokens, dim = keys.shape
    trees = (keys * query).reshape(tokens, dim // 64, 4, 16)
    for width in (8, 4, 2, 1):
        trees = trees[..., :width] + trees[..., width : 2 * width]
    banks = np.zeros((tokens, 4), np.float16)
    for column in range(dim // 64):
        banks = banks + trees[:, column, :, 0]
    scores = np.zeros(tokens, np.float32)
    for bank in range(4):
        scores += banks[:, bank].astype(np.float32)
    weights = np.exp((scores - scores.max()).astype(np.float64)).astype(np.float32)
    weights = weights.astype(np.float16)
    lanes, partial = np.zeros(16, np.float32), np.zeros((16, dim), np.float16)
    for page in range(0, tokens, 16):
        part, value = weights[page : page + 16], values[page : page + 16]
        lanes += part.astype(np.float32)
        if fused:
            exact = part[:, None].astype(np.float64) * value.astype(np.float64)
            partial = (partial.astype(np.float64) + exact).astype(np.float16)
        else:
            partial = partial + part[:, None] * value
    total, out = np.float32(0), np.zeros(dim, np.float32)
    for lane in range(16):
        total += lanes[lane]
    for sid, pseudo_channel, group in np.ndindex(2, 2, 4):
        out += partial[pseudo_channel * 8 + sid * 4 + group].astype(np.float32)
    return out / total


@pytest.mark.parametrize("head_dim", [64, 128])
def test_a_mac_rounds_after_the_multiply_and_after_the_add(pim: PimDevice, head_dim: int) -> None:
    random = np.random.default_rng(7)
    keys = random.standard_normal((256, KV_HEADS, head_dim)).astype(np.float16)
    values = random.standard_normal((256, KV_HEADS, head_dim)).astype(np.float16)
    scale = np.float32(head_dim**-0.5)
    query = random.standard_normal((1, HEADS + 2 * KV_HEADS, head_dim)).astype(np.float32)
    layer = Layer(pim, head_dim, 16)
    paged = keys.reshape(16, 16, KV_HEADS, head_dim)
    pim.write(layer.keys, np.ascontiguousarray(paged.transpose(0, 2, 3, 1)))
    paged = values.reshape(16, 16, KV_HEADS, head_dim)
    pim.write(layer.values, np.ascontiguousarray(paged.transpose(0, 2, 1, 3)))
    # Every frame starts at the row's position: the query is not rotated, only scaled and rounded.
    table = Table(list(range(16)), 256, frames=[255] * 16)
    position = np.array([255])
    got = layer.attend(query.reshape(1, -1), position, [table], np.zeros(1, np.int64))[0]
    half = (query[0, :HEADS] * scale).astype(np.float16)
    inputs = [(half[h], keys[:, h // GROUP], values[:, h // GROUP]) for h in range(HEADS)]
    assert np.array_equal(got, np.stack([model(*each, fused=False) for each in inputs]))
    single = np.stack([model(*each, fused=True) for each in inputs])
    assert np.mean(got == single) < 0.1


def test_bits_depend_neither_on_the_batch_nor_on_the_place_of_pages(pim: PimDevice) -> None:
    random = np.random.default_rng(3)
    context, dim = 700, 64
    qkv = random.standard_normal((context, (HEADS + 2 * KV_HEADS) * dim)).astype(np.float32)
    rows = np.arange(context)
    results: list[Floats] = []
    for seed in range(2):
        pages = np.random.default_rng(seed).permutation(64)[:44]
        layer = Layer(pim, dim, 64)
        layer.append(qkv, rows, pages[rows // 16] * 16 + rows % 16)
        table, first = Table(pages.tolist(), context), np.zeros(context, np.int64)
        results.append(layer.attend(qkv, rows, [table], first, "attention_prefill"))
        for row in (0, 16, 255, 256, 699):
            seen = Table(pages.tolist()[: row // 16 + 1], row + 1)
            alone = layer.attend(qkv[row : row + 1], rows[row : row + 1], [seen], first[:1])
            assert np.array_equal(alone[0], results[-1][row])
    assert np.array_equal(results[0], results[1])
    wanted = reference(qkv, rows[[5, 699]], dim, np.array([6, 700]))
    assert np.abs(results[0][[5, 699]] - wanted).max() <= 1e-2 * np.abs(wanted).max()


def test_a_run_attended_to_at_another_offset_gives_the_same_scores(pim: PimDevice) -> None:
    """Keys lie rotated within their frame; the query turns by its distance to the frame."""
    random = np.random.default_rng(4)
    dim = 64
    qkv = random.standard_normal((33, (HEADS + 2 * KV_HEADS) * dim)).astype(np.float32)
    layer = Layer(pim, dim, 8)
    rows = np.arange(32)
    # Two runs of one page, each in a frame of its own, in pages 5 and 2.
    layer.append(qkv[:32], rows % 16, np.array([5, 2])[rows // 16] * 16 + rows % 16)
    table = Table([5, 2], 32, frames=[0, 16])
    got = layer.attend(qkv[32:], np.array([32]), [table], np.zeros(1, np.int64))
    wanted = reference(qkv, np.array([32]), dim, np.array([32]))
    assert np.abs(got - wanted).max() <= 5e-3 * np.abs(wanted).max()


def test_rows_of_several_requests_read_their_own_pages(pim: PimDevice) -> None:
    random = np.random.default_rng(5)
    dim = 64
    qkv = random.standard_normal((32, (HEADS + 2 * KV_HEADS) * dim)).astype(np.float32)
    layer = Layer(pim, dim, 4)
    rows = np.arange(32)
    layer.append(qkv, rows % 16, np.array([3, 1])[rows // 16] * 16 + rows % 16)
    query, positions = qkv[[31, 15, 20]], np.array([15, 15, 4])
    got = layer.attend(query, positions, [Table([3], 16), Table([1], 16)], np.array([1, 0, 1]))
    first = reference(qkv[:16], np.array([15]), dim, np.array([16]))
    second = reference(qkv[16:], np.array([15, 4]), dim, np.array([16, 5]))
    wanted = np.stack([second[0], first[0], second[1]])
    assert np.abs(got - wanted).max() <= 5e-3 * np.abs(wanted).max()


def test_a_row_that_sees_nothing_is_zero(pim: PimDevice) -> None:
    layer = Layer(pim, 64, 2)
    qkv = np.ones((1, (HEADS + 2 * KV_HEADS) * 64), np.float32)
    got = layer.attend(qkv, np.array([3]), [Table([], 0)], np.zeros(1, np.int64))
    assert not got.any()


def test_a_skipped_slot_changes_nothing(pim: PimDevice) -> None:
    layer = Layer(pim, 64, 2)
    qkv = np.ones((2, (HEADS + 2 * KV_HEADS) * 64), np.float32)
    layer.append(qkv, np.array([0, 1]), np.array([-1, 17]))
    values = pim.read(layer.values)
    assert values[1, :, 1].all()
    assert np.count_nonzero(values) == KV_HEADS * 64


def test_partial_attention_over_parts_of_a_sequence_merges_to_the_whole(pim: PimDevice) -> None:
    random = np.random.default_rng(6)
    dim, context = 64, 400
    qkv = random.standard_normal((context, (HEADS + 2 * KV_HEADS) * dim)).astype(np.float32)
    layer, rows = Layer(pim, dim, 25), np.arange(context)
    layer.append(qkv, rows, rows)
    last = rows[-1:]
    whole = layer.attend(qkv[last], last, [Table(list(range(25)), context)], np.zeros(1, np.int64))
    kernel = pim.load(spec("attention_decode", dim))
    parts: list[PartialAttention] = []
    for first, stop in ((0, 7), (7, 25)):
        table = Table(list(range(first, stop)), context, starts=list(range(first, stop)))
        arguments = layer.arguments(qkv[last], last, [table], np.zeros(1))
        parts.append(pim.attend_partial(kernel, arguments))
    merged = merge(*parts).normalized()
    assert merged.shape == (1, HEADS, dim)
    assert np.abs(merged - whole).max() <= 2e-3 * np.abs(whole).max()
    empty = pim.attend_partial(
        kernel, layer.arguments(qkv[last], last, [Table([], 0)], np.zeros(1))
    )
    assert np.array_equal(merge(empty, parts[0]).output, parts[0].output)
    append = pim.load(spec("kv_append", dim))
    with pytest.raises(DeviceError, match="kv_append has no partial results"):
        pim.attend_partial(append, [])


def test_launches_are_metered(pim: PimDevice) -> None:
    layer, rows = Layer(pim, 64, 4), np.arange(40)
    qkv = np.ones((40, (HEADS + 2 * KV_HEADS) * 64), np.float32)
    layer.append(qkv, rows, rows)
    written = pim.figures()
    layer.attend(qkv[:1], np.array([39]), [Table([0, 1, 2], 40)], np.zeros(1, np.int64))
    figures = pim.figures()
    assert figures["launches"] == 2
    assert written["unit_commands"] == 0 < written["energy_mj"] < figures["energy_mj"]
    # Two KV heads of three pages, a column of K and one of V for each of three query heads.
    assert figures["unit_commands"] == KV_HEADS * 3 * 2 * GROUP
    assert 0 < written["time_ms"] < figures["time_ms"]
    assert pim.meter.attended == 40 * HEADS
