from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenloom.backends.device import Buffer
from tokenloom.backends.host import HostDevice
from tokenloom.kernel_spec import KernelSpec

Array = NDArray[Any]
Put = Callable[[Array], Buffer]
PAGE = 16
MAX_POSITIONS = 1024


@dataclass(frozen=True)
class Heads:
    num_heads: int
    num_kv_heads: int
    head_dim: int

    @property
    def width(self) -> int:
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim

    def spec(self, op: str) -> KernelSpec:
        return KernelSpec.of(
            op,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            page_tokens=PAGE,
        )


@dataclass(frozen=True)
class Entry:
    """One entry of a page table."""

    page: int
    frame_start: int
    position: int
    length: int


SMALL, GROUPED = Heads(4, 4, 16), Heads(9, 3, 64)


def rope_tables(head_dim: int) -> tuple[Array, Array]:
    inverse = 10000.0 ** (-np.arange(head_dim // 2) / (head_dim // 2))
    angles = np.arange(MAX_POSITIONS)[:, None] * inverse
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotate(x: Array, position: int, cos: Array, sin: Array) -> Array:
    low, high = np.split(x.astype(np.float64), 2, axis=-1)
    c, s = cos[position].astype(np.float64), sin[position].astype(np.float64)
    return np.concatenate([low * c - high * s, high * c + low * s], axis=-1)


def reference_row(
    heads: Heads, qkv: Array, position: int, table: list[Entry], keys: Array, values: Array
) -> Array:
    """Attention of one row in float64 over the pools as they are."""
    cos, sin = rope_tables(heads.head_dim)
    group = heads.num_heads // heads.num_kv_heads
    query = qkv[: heads.num_heads * heads.head_dim].reshape(heads.num_heads, heads.head_dim)
    scores: list[Array] = []
    weighted: list[Array] = []
    for entry in table:
        rotated = rotate(query, position - entry.frame_start, cos, sin)
        for token in range(entry.length):
            if entry.position + token <= position:
                key = np.repeat(keys[entry.page, :, :, token], group, axis=0)
                scores.append((rotated * key).sum(-1) / np.sqrt(heads.head_dim))
                weighted.append(np.repeat(values[entry.page, :, token], group, axis=0))
    weights = np.exp(np.array(scores) - np.max(scores, axis=0))
    weights /= weights.sum(axis=0)
    return np.einsum("th,thd->hd", weights, np.array(weighted)).ravel()


class Paged:
    """Pools on the host device, and calls of the kernels on them."""

    def __init__(self, host: HostDevice, put: Put, heads: Heads, num_pages: int):
        self.host, self.put, self.heads = host, put, heads
        shape = (heads.num_kv_heads, heads.head_dim, PAGE)
        self.keys = put(np.zeros((num_pages, *shape), np.float32))
        self.values = put(np.zeros((num_pages, shape[0], PAGE, shape[1]), np.float32))
        self.tables = [put(table) for table in rope_tables(heads.head_dim)]

    def append(self, qkv: Array, frame_positions: list[int], slots: list[int]) -> None:
        indices = [self.put(np.array(values, np.int32)) for values in (frame_positions, slots)]
        arguments = [self.put(qkv), *indices, *self.tables, self.keys, self.values, len(slots)]
        self.host.launch(self.host.load(self.heads.spec("kv_append")), arguments)

    def attend(
        self,
        op: str,
        qkv: Array,
        rows: list[tuple[int, int]],
        tables: list[list[Entry]],
        first: int = 0,
        n: int | None = None,
    ) -> Array:
        """`rows` are (position, request); returns the whole output buffer."""
        entries = [entry for table in tables for entry in table]
        offsets = np.cumsum([0, *(len(table) for table in tables)])
        columns = [
            [position for position, _ in rows],
            [request for _, request in rows],
            offsets,
            [e.page for e in entries],
            [e.frame_start for e in entries],
            [e.position for e in entries],
            [e.length for e in entries],
        ]
        out = self.put(
            np.zeros((len(rows), self.heads.num_heads * self.heads.head_dim), np.float32)
        )
        self.host.launch(
            self.host.load(self.heads.spec(op)),
            [
                self.put(qkv),
                *(self.put(np.array(column, np.int32)) for column in columns),
                *self.tables,
                self.keys,
                self.values,
                out,
                first,
                len(rows) - first if n is None else n,
            ],
        )
        return self.host.read(out)


@pytest.fixture
def paged(host: HostDevice, put: Put) -> Callable[[Heads, int], Paged]:
    return lambda heads, num_pages: Paged(host, put, heads, num_pages)


def one_frame(num_tokens: int, first_page: int = 0) -> list[Entry]:
    return [
        Entry(first_page + start // PAGE, 0, start, min(PAGE, num_tokens - start))
        for start in range(0, num_tokens, PAGE)
    ]


def filled(
    paged: Callable[[Heads, int], Paged], heads: Heads, num_pages: int, rng: np.random.Generator
) -> Paged:
    """Pools full of random keys and values, as if appended before."""
    made = paged(heads, num_pages)
    for pool in (made.keys, made.values):
        made.host.write(pool, rng.standard_normal(pool.shape, np.float32))
    return made


@pytest.mark.parametrize("heads", [SMALL, GROUPED])
def test_kv_append_rotates_keys_and_skips_negative_slots(
    paged: Callable[[Heads, int], Paged], rng: np.random.Generator, heads: Heads
) -> None:
    made = paged(heads, 4)
    qkv = rng.standard_normal((3, heads.width), np.float32)
    made.append(qkv, [5, 900, 0], [2 * PAGE + 7, -1, 63])
    kv = qkv.reshape(3, -1, heads.head_dim)[:, heads.num_heads :]
    k, v = kv[:, : heads.num_kv_heads], kv[:, heads.num_kv_heads :]
    keys, values = made.host.read(made.keys), made.host.read(made.values)
    for row, position, page, token in ((0, 5, 2, 7), (2, 0, 3, 15)):
        expected = rotate(k[row], position, *rope_tables(heads.head_dim))
        np.testing.assert_allclose(keys[page, :, :, token], expected, rtol=1e-5, atol=1e-5)
        assert (values[page, :, token] == v[row]).all()
        keys[page, :, :, token] = values[page, :, token] = 0
    assert not keys.any()
    assert not values.any()


@pytest.mark.parametrize("heads", [SMALL, GROUPED, Heads(8, 1, 32)])
@pytest.mark.parametrize("op", ["attention_prefill", "attention_decode"])
def test_attention_reads_through_tables_with_frames_partial_and_repeated_pages(
    paged: Callable[[Heads, int], Paged], rng: np.random.Generator, heads: Heads, op: str
) -> None:
    made = filled(paged, heads, 40, rng)
    linked = [
        Entry(7, 0, 0, 16),
        Entry(3, 0, 16, 5),
        Entry(9, 21, 21, 16),
        Entry(9, 37, 37, 16),
        Entry(0, 53, 53, 1),
        Entry(1, 54, 54, 9),
    ]
    tables = [one_frame(16 * 30, 5), linked, [Entry(2, 0, 0, 3)]]
    rows = [(62, 1), (479, 0), (40, 1), (2, 2), (0, 2), (300, 0), (53, 1), (255, 0), (256, 0)]
    qkv = rng.standard_normal((len(rows), heads.width), np.float32) * 2
    out = made.attend(op, qkv, rows, tables)
    keys, values = made.host.read(made.keys), made.host.read(made.values)
    for index, (position, request) in enumerate(rows):
        expected = reference_row(heads, qkv[index], position, tables[request], keys, values)
        np.testing.assert_allclose(out[index], expected, rtol=2e-5, atol=2e-5)


def test_only_rows_from_first_are_written(
    paged: Callable[[Heads, int], Paged], rng: np.random.Generator
) -> None:
    made = filled(paged, SMALL, 4, rng)
    qkv = rng.standard_normal((5, SMALL.width), np.float32)
    rows = [(40, 0)] * 5
    out = made.attend("attention_decode", qkv, rows, [one_frame(50)], first=2, n=2)
    assert out[2:4].any(axis=1).all()
    assert not out[[0, 1, 4]].any()
    assert not made.attend("attention_decode", qkv, rows, [[]], first=0, n=0).any()


def test_a_row_that_sees_no_token_is_zero(
    paged: Callable[[Heads, int], Paged], rng: np.random.Generator
) -> None:
    made = filled(paged, SMALL, 4, rng)
    qkv = rng.standard_normal((1, SMALL.width), np.float32)
    assert not made.attend("attention_prefill", qkv, [(3, 0)], [[]]).any()


@pytest.mark.parametrize("heads", [SMALL, GROUPED])
def test_rows_have_the_same_bits_in_prefill_in_chunks_and_decoded_alone(
    paged: Callable[[Heads, int], Paged], rng: np.random.Generator, heads: Heads
) -> None:
    """Each call sees the table as it is at its time, and what is not yet written is garbage."""
    num_tokens = 16 * 18 + 5
    qkv = rng.standard_normal((num_tokens, heads.width), np.float32)
    other = rng.standard_normal((7, heads.width), np.float32)
    results: list[Array] = []
    for chunk in (num_tokens, 100, 17, 1):
        made = filled(paged, heads, 24, rng)
        parts: list[Array] = []
        for start in range(0, num_tokens, chunk):
            stop = min(num_tokens, start + chunk)
            made.append(qkv[start:stop], list(range(start, stop)), list(range(start, stop)))
            op = "attention_decode" if chunk == 1 else "attention_prefill"
            table, rows = one_frame(stop), [(position, 0) for position in range(start, stop)]
            if chunk == 17:  # beside rows of another request
                batch = np.concatenate([other, qkv[start:stop]])
                mixed = [(9, 1)] * len(other) + rows
                out = made.attend(op, batch, mixed, [table, [Entry(23, 0, 0, 10)]])
                parts.append(out[len(other) :])
            else:
                parts.append(made.attend(op, qkv[start:stop], rows, [table]))
        results.append(np.concatenate(parts))
    for result in results[1:]:
        assert result.tobytes() == results[0].tobytes()


def test_one_frame_at_an_offset_equals_the_run_at_its_place(
    paged: Callable[[Heads, int], Paged], rng: np.random.Generator
) -> None:
    """Rotating the query by its distance to the frame is rotating the keys to their positions."""
    heads = GROUPED
    qkv = rng.standard_normal((33, heads.width), np.float32)
    made = paged(heads, 6)
    made.append(qkv[:32], list(range(32)), list(range(32)))
    made.append(qkv[:32], list(range(500, 532)), list(range(32, 64)))
    in_frame = [Entry(0, 500, 500, 16), Entry(1, 500, 516, 16)]
    in_place = [replace(entry, page=entry.page + 2, frame_start=0) for entry in in_frame]
    row = [(600, 0)]
    framed = made.attend("attention_decode", qkv[32:], row, [in_frame])
    placed = made.attend("attention_decode", qkv[32:], row, [in_place])
    np.testing.assert_allclose(framed, placed, rtol=2e-4, atol=2e-5)
