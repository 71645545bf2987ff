# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false
"""How a PIM kernel finds pages in the banks: sizes that are compiled in, and the index of a lane.

The kernels' side of `backends/pim/layout.py`: the same places, as expressions. It computes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from tvm.script import tirx as T

from tokenloom.backends.kernels.vector import LANES
from tokenloom.backends.pim.layout import PAGE_TOKENS
from tokenloom.kernel_spec import KernelSpec


@dataclass(frozen=True)
class PimShape:
    """Sizes that are compiled in: heads, and how a page of PAGE_TOKENS tokens lies in a channel.

    Of the SIDs the first `pim_sids` compute.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    channels: int
    columns: int
    pseudo_channels: int
    sids: int
    pim_sids: int
    bank_groups: int
    banks: int

    @classmethod
    def of(cls, spec: KernelSpec) -> PimShape:
        """Take the sizes out of the spec of a PIM function, whose dimensions are these fields."""
        return cls(**{field.name: spec.dim(field.name) for field in fields(PimShape)})

    @property
    def pim_groups(self) -> int:
        """Bank groups of a pseudo channel that compute, over all SIDs."""
        return self.pim_sids * self.bank_groups

    @property
    def heads_per_kv(self) -> int:
        """Query heads that share a KV head."""
        return self.num_heads // self.num_kv_heads

    @property
    def width(self) -> int:
        """Columns of a row of queries, keys and values."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim

    @property
    def slots(self) -> int:
        """Tokens that are worked on at once."""
        return self.pseudo_channels * self.pim_groups

    @property
    def chunks(self) -> int:
        """Groups of 16 dimensions; the last may be padded."""
        return -(-self.head_dim // LANES)

    @property
    def chunk_passes(self) -> int:
        """Columns that a token takes in a bank."""
        return -(-self.chunks // self.banks)

    @property
    def token_passes(self) -> int:
        """Tokens of a page that follow each other in a slot."""
        return -(-PAGE_TOKENS // self.slots)

    @property
    def tile_columns(self) -> int:
        """Columns that a page takes in a bank."""
        return self.token_passes * self.chunk_passes

    @property
    def tiles_per_row(self) -> int:
        """Pages in a row of a bank."""
        return self.columns // self.tile_columns

    @property
    def padded(self) -> int:
        """Dimensions with padding to whole columns of all banks."""
        return self.chunk_passes * self.banks * LANES

    def bank_shape(self, num_rows: Any) -> tuple[Any, ...]:
        """Return the shape of a pool's banks."""
        groups = self.sids * self.bank_groups
        units = (self.pseudo_channels, groups, self.banks, LANES)
        return (num_rows, self.channels, self.columns, *units)

    def index(self, tile: Any, token: Any, chunk: Any, lane: Any) -> tuple[Any, ...]:
        """Return the index into the banks of a token's chunk; `tile` is row, channel, column."""
        row, channel, column = tile
        slot = token % self.slots
        column = column + token // self.slots * self.chunk_passes + chunk // self.banks
        unit = (slot // self.pim_groups, slot % self.pim_groups, chunk % self.banks, lane)
        return (T.Cast("int64", row), channel, column, *unit)

    def tile(self, page: Any, head: Any, stripe: Any) -> tuple[Any, Any, Any]:
        """Return row, channel and first column of a page of one head."""
        group = page // stripe * self.num_kv_heads + head
        position = group // self.channels * stripe + page % stripe
        column = position % self.tiles_per_row * self.tile_columns
        return position // self.tiles_per_row, group % self.channels, column
