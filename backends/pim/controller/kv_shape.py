"""The keys and values that a stack holds: how many heads, how large a block is in each format.

It knows nothing of where blocks lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.controller.quantize import SCALE_BYTES
from tokenloom.backends.pim.layout import PAGE_TOKENS

Tier = Literal["pim", "dense"]
Format = Literal["fp16", "int8"]

FORMATS: tuple[Format, ...] = ("fp16", "int8")
ELEMENT_BYTES: dict[Format, int] = {"fp16": 2, "int8": 1}


class BlockId(NamedTuple):
    """The keys and values of one head for 16 tokens; `block` counts over all contexts."""

    layer: int
    head: int
    block: int


@dataclass(frozen=True)
class KvShape:
    """Layers, KV heads and their dimension; in INT8, `group_dims` key channels share a scale.

    DeviceError: the groups do not divide the dimensions.
    """

    layers: int
    kv_heads: int
    head_dim: int
    group_dims: int = 1

    def __post_init__(self) -> None:
        if min(self.layers, self.kv_heads, self.head_dim, self.group_dims) < 1:
            raise DeviceError(f"pim: {self} has a size that is not positive")
        if self.head_dim % self.group_dims:
            raise DeviceError(
                f"pim: groups of {self.group_dims} key channels do not divide"
                f" the {self.head_dim} of a head"
            )

    @property
    def block_elements(self) -> int:
        """Numbers in the keys and values of a block."""
        return 2 * PAGE_TOKENS * self.head_dim

    @property
    def scale_bytes(self) -> int:
        """Bytes of an INT8 block's scales: those of its key channels, then of its tokens."""
        return (self.head_dim // self.group_dims + PAGE_TOKENS) * SCALE_BYTES

    def code_bytes(self, form: Format) -> int:
        """Return the bytes of a block without its scales."""
        return self.block_elements * ELEMENT_BYTES[form]

    def block_bytes(self, form: Format) -> int:
        """Return the bytes of a block, which is what a migration reads or writes."""
        return self.code_bytes(form) + (self.scale_bytes if form == "int8" else 0)

    def check(self, block: BlockId) -> None:
        """Raise DeviceError if there is no such layer, head or block."""
        sizes = (("layer", self.layers), ("head", self.kv_heads))
        for (name, size), value in zip(sizes, block, strict=False):
            if not 0 <= value < size:
                raise DeviceError(f"pim: {block}: {name} {value} of {size}")
        if block.block < 0:
            raise DeviceError(f"pim: {block}: a block's number is not negative")
