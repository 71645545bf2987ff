"""Where the keys and values of KV pages lie in the banks.

One page of one KV head is a *tile*: the same few columns of one row in all computing banks of a
channel, so that one all-bank command works on all of it. Within a tile (after AttAcc):

- token t lies in bank group `t mod slots` of the channel, counted over pseudo channels, SIDs and
  bank groups; with fewer slots than tokens, the tokens left go to the following columns;
- 16 dimensions (the lanes) make a chunk; chunk c lies in bank `c mod banks` of that bank group, and
  with more chunks than banks in the following columns.

Dimensions are padded to whole chunks and chunks to whole banks: with 4 banks of 16 lanes a head
dimension of 64 or 128 fills its columns, 80 takes as much as 128, and 16 as much as 64.
`stripe_pages` consecutive pages of a head stay in one channel, then the next channel follows.
It holds no data and knows nothing of attention.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.banks import Half
from tokenloom.backends.pim.geometry import Index, Place, StackGeometry

PAGE_TOKENS = 16
"""Tokens of a page: as many as an FP16 column has lanes."""


@dataclass(frozen=True)
class KvLayout:
    """The places of `num_pages` pages of one layer's keys, or of its values.

    DeviceError: one token's part of a tile does not fit into a row.
    """

    geometry: StackGeometry
    num_pages: int
    kv_heads: int
    head_dim: int
    stripe_pages: int

    def __post_init__(self) -> None:
        columns = self.geometry.size("column")
        if self.tile_columns > columns:
            raise DeviceError(
                f"pim: a page of {PAGE_TOKENS} tokens with head dimension {self.head_dim}"
                f" takes {self.tile_columns} columns in each bank; a row has {columns}"
            )

    @property
    def stripe(self) -> int:
        """Pages of a head that stay in one channel."""
        return self.stripe_pages or max(1, self.num_pages)

    @property
    def token_passes(self) -> int:
        """Tokens of one page that share a slot."""
        return -(-PAGE_TOKENS // self.geometry.slots)

    @property
    def chunk_passes(self) -> int:
        """Chunks of one token that share a bank."""
        return -(-self.head_dim // (self.geometry.lanes * self.geometry.size("bank")))

    @property
    def tile_columns(self) -> int:
        """Columns that a tile takes in each bank of its channel."""
        return self.token_passes * self.chunk_passes

    @property
    def tiles_per_row(self) -> int:
        """Tiles in one row; none straddles two."""
        return self.geometry.size("column") // self.tile_columns

    @property
    def num_rows(self) -> int:
        """Rows that all pages take, counted from 0 in every bank."""
        groups = -(-self.num_pages // self.stripe) * self.kv_heads
        tiles = -(-groups // self.geometry.channels) * self.stripe
        return max(1, -(-tiles // self.tiles_per_row))

    def tile(self, page: Index, head: Index) -> tuple[Index, Index, Index]:
        """Return the channel (over all stacks), the row and the first column of tiles."""
        group, within = np.divmod(page, self.stripe)
        lap, channel = np.divmod(group * self.kv_heads + head, self.geometry.channels)
        row, tile = np.divmod(lap * self.stripe + within, self.tiles_per_row)
        return channel, row, tile * self.tile_columns

    def place(self, page: Index, head: Index, token: Index, dim: Index) -> tuple[Place, Index]:
        """Return the column and the lane in it of single elements; arguments broadcast."""
        page, head, token, dim = np.broadcast_arrays(page, head, token, dim)
        geometry = self.geometry
        channel, row, column = self.tile(page, head)
        token_pass, slot = np.divmod(token, geometry.slots)
        chunk, lane = np.divmod(dim, geometry.lanes)
        chunk_pass, bank = np.divmod(chunk, geometry.size("bank"))
        pim_groups = geometry.pim_sids * geometry.size("bank_group")
        stack, channel = np.divmod(channel, geometry.size("channel"))
        sid, bank_group = np.divmod(slot % pim_groups, geometry.size("bank_group"))
        column = column + token_pass * self.chunk_passes + chunk_pass
        pseudo_channel = slot // pim_groups
        return Place(stack, channel, pseudo_channel, sid, bank_group, bank, row, column), lane

    def gather(self, rows: Half, pages: Index) -> Half:
        """Return pages [n, kv_heads, 16, head_dim] out of the layout's rows of the banks.

        `rows` is a slice of `BankArrays.lanes` over the rows of this layout.
        """
        tiles = self._computing_units(rows)[self._tile_index(pages)]
        slots, banks, lanes = self.geometry.slots, self.geometry.size("bank"), self.geometry.lanes
        shape = (*tiles.shape[:2], self.token_passes, self.chunk_passes, slots, banks, lanes)
        # [n, head, token pass, chunk pass, slot, bank, lane] -> [.., pass, slot, pass, bank, lane]
        tokens = tiles.reshape(shape).transpose(0, 1, 2, 4, 3, 5, 6)
        whole = tokens.reshape(*tiles.shape[:2], self.token_passes * slots, -1)
        return whole[:, :, :PAGE_TOKENS, : self.head_dim]

    def scatter(self, rows: Half, pages: Index, data: Half) -> None:
        """Write pages [n, kv_heads, 16, head_dim]; padding becomes zero."""
        slots, banks, lanes = self.geometry.slots, self.geometry.size("bank"), self.geometry.lanes
        padded = np.zeros(
            (*data.shape[:2], self.token_passes * slots, self.chunk_passes * banks * lanes),
            np.float16,
        )
        padded[:, :, :PAGE_TOKENS, : self.head_dim] = data
        shape = (*data.shape[:2], self.token_passes, slots, self.chunk_passes, banks, lanes)
        tiles = padded.reshape(shape).transpose(0, 1, 2, 4, 3, 5, 6)
        pseudo_channels = self.geometry.size("pseudo_channel")
        groups = slots // pseudo_channels
        units = tiles.reshape(
            *data.shape[:2], self.tile_columns, pseudo_channels, groups, banks, lanes
        )
        self._computing_units(rows)[self._tile_index(pages)] = units

    def units(self, rows: Half) -> Half:
        """Return a view [row, channel, column, pseudo channel, bank group, bank, lane]."""
        geometry = self.geometry
        channels, columns = geometry.channels, geometry.size("column")
        shape = (len(rows), channels, columns, geometry.size("pseudo_channel"))
        groups = geometry.size("sid") * geometry.size("bank_group")
        return rows.reshape(*shape, groups, geometry.size("bank"), geometry.lanes)

    def _computing_units(self, rows: Half) -> Half:
        """Return `units` of the bank groups that compute."""
        return self.units(rows)[
            ..., : self.geometry.pim_sids * self.geometry.size("bank_group"), :, :
        ]

    def _tile_index(self, pages: Index) -> tuple[Index, Index, Index]:
        """Return the index [n, head, column of the tile] of pages into `_computing_units`."""
        heads = np.arange(self.kv_heads)
        channel, row, column = self.tile(pages[:, None], heads[None, :])
        columns = column[:, :, None] + np.arange(self.tile_columns)
        return row[:, :, None], channel[:, :, None], columns
