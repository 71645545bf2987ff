"""Where a tensor lies in a stack, as data to print or to draw: channels, and places in a channel.

Everything is asked of the tensor's layout, element by element where a picture shows elements. It
knows nothing of how a picture looks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, product

import numpy as np

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.geometry import StackGeometry
from tokenloom.backends.pim.layout import PAGE_TOKENS, KvLayout
from tokenloom.backends.pim.stack import PimStack

MOST_SHARES = 1024
"""Shares that a drawing lists; of more, only their number is kept."""


@dataclass(frozen=True)
class Share:
    """A part of the tensor that lies in one channel, in rows `first_row` to `last_row`."""

    channel: int
    part: int
    what: str
    first_row: int
    last_row: int


@dataclass(frozen=True)
class Cell:
    """What one bank of a slot holds in a column, counted from the first that is drawn."""

    slot: int
    bank: int
    column: int
    what: str


@dataclass(frozen=True)
class TensorMap:
    """A tensor in a stack. Each share belongs to one of its parts, whose kind `part` names.

    `slots` names the slots of a channel; `cells` are those of one tile, which `tile` describes.
    """

    title: str
    facts: tuple[str, ...]
    channels: int
    part: str
    shares: tuple[Share, ...]
    num_shares: int
    slots: tuple[str, ...]
    banks: int
    tile: str
    cells: tuple[Cell, ...]


def kv_map(stack: PimStack, heads: int, head_dim: int, length: int) -> TensorMap:
    """Return where keys and values of `heads` KV heads lie, for one sequence of `length` tokens.

    DeviceError: no SID computes, a page does not fit a row, or the sequence does not fit the stack.
    """
    geometry = StackGeometry.computing(stack)
    stripe = -(-stack.stripe_tokens // PAGE_TOKENS)
    layout = KvLayout(geometry, -(-length // PAGE_TOKENS), heads, head_dim, stripe)
    _check_fits(layout, length)
    shares = tuple(islice(_kv_shares(layout, length), MOST_SHARES))
    groups = -(-layout.num_pages // layout.stripe)
    return TensorMap(
        f"keys and values, FP16: heads {heads}, tokens {length}, dimensions {head_dim}",
        _kv_facts(layout, length),
        geometry.channels,
        "head",
        shares,
        groups * heads,
        slot_names(geometry),
        geometry.size("bank"),
        f"keys of head 0, tokens 0 to {min(length, PAGE_TOKENS) - 1}",
        _kv_cells(layout, min(length, PAGE_TOKENS)),
    )


def slot_names(geometry: StackGeometry) -> tuple[str, ...]:
    """Return "pseudo channel.SID.bank group" of each slot, in the order of slots."""
    levels = (geometry.size("pseudo_channel"), geometry.pim_sids, geometry.size("bank_group"))
    return tuple(".".join(map(str, place)) for place in product(*map(range, levels)))


def _check_fits(layout: KvLayout, length: int) -> None:
    rows = layout.geometry.size("row")
    if 2 * layout.num_rows <= rows:
        return

    def rows_of(num_pages: int) -> int:
        return 2 * replace(layout, num_pages=num_pages).num_rows

    pages = bisect_right(range(layout.num_pages), rows, key=rows_of) - 1
    raise DeviceError(
        f"pim: keys and values of {layout.kv_heads} heads x {length} tokens take"
        f" {2 * layout.num_rows:,} rows in every bank, which has {rows:,};"
        f" {max(0, pages) * PAGE_TOKENS:,} tokens fit"
    )


def _kv_facts(layout: KvLayout, length: int) -> tuple[str, ...]:
    geometry, rows = layout.geometry, layout.num_rows
    pages = layout.num_pages * layout.kv_heads
    tile_bytes = layout.tile_columns * geometry.slots * geometry.size("bank")
    held = length * layout.kv_heads * layout.head_dim * 2
    filled = held / (pages * tile_bytes * geometry.column_bytes)
    stay = f"{layout.stripe_pages * PAGE_TOKENS} tokens" if layout.stripe_pages else "all tokens"
    return (
        f"A channel has {geometry.slots} slots (pseudo channel.SID.bank group) of"
        f" {geometry.size('bank')} banks; a column has {geometry.lanes} FP16 lanes.",
        f"A page of {PAGE_TOKENS} tokens of a head is {layout.tile_columns} of the"
        f" {geometry.size('column')} columns of a row, in all banks of its channel.",
        f"Of a head, {stay} stay in one channel.",
        f"Keys take rows 0 to {rows - 1} and values as many after them, of"
        f" {geometry.size('row'):,}; {filled:.1%} of their pages' lanes hold data.",
    )


def _kv_shares(layout: KvLayout, length: int) -> Iterator[Share]:
    """Yield the runs of pages of a head that share a channel, by head and then by token."""
    starts = range(0, layout.num_pages, layout.stripe)
    for head, start in product(range(layout.kv_heads), starts):
        stop = min(start + layout.stripe, layout.num_pages)
        channel, row, _ = layout.tile(np.array([start, stop - 1]), np.array(head))
        last_token = min(stop * PAGE_TOKENS, length) - 1
        what = f"head {head}, tokens {start * PAGE_TOKENS} to {last_token}"
        yield Share(int(channel[0]), head, what, int(row[0]), int(row[1]))


def _kv_cells(layout: KvLayout, tokens: int) -> tuple[Cell, ...]:
    """Return one cell for every chunk of every token of the first page of head 0."""
    geometry, zero = layout.geometry, np.array(0)
    firsts = np.arange(0, layout.head_dim, geometry.lanes)
    place, _ = layout.place(zero, zero, np.arange(tokens)[:, None], firsts[None, :])
    group = place.pseudo_channel * geometry.pim_sids + place.sid
    slot = group * geometry.size("bank_group") + place.bank_group
    cells: list[Cell] = []
    for token, chunk in product(range(tokens), range(len(firsts))):
        first = int(firsts[chunk])
        last = min(first + geometry.lanes, layout.head_dim) - 1
        index = token, chunk
        where = int(slot[index]), int(place.bank[index]), int(place.column[index])
        cells.append(Cell(*where, f"t{token} d{first}-{last}"))
    return tuple(cells)
