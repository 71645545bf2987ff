"""Where the values of a block are used for the last time, and row buffers made of that."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from xdsl.ir import Block, SSAValue

Shape = tuple[str, int]
"""A row buffer's shape: the name of its run-time number of rows, and its width in elements."""


def last_uses(block: Block) -> dict[SSAValue, int]:
    """Return the index of the last op of `block` that reads each value, itself or inside it."""
    last: dict[SSAValue, int] = {}
    for index, op in enumerate(block.ops):
        for inner in op.walk():
            for operand in inner.operands:
                last[operand] = index
    return last


@dataclass
class RowBuffers:
    """Names of row buffers, used again once what they hold is dead."""

    shapes: dict[str, Shape] = field(default_factory=dict[str, Shape])
    _free: defaultdict[Shape, list[str]] = field(default_factory=lambda: defaultdict(list))

    def take(self, shape: Shape) -> str:
        """Return a free buffer of that shape, or a new one."""
        if self._free[shape]:
            return self._free[shape].pop()
        name = f"temp.{len(self.shapes)}"
        self.shapes[name] = shape
        return name

    def give(self, name: str) -> None:
        """Take a buffer back. One that was not taken here is left alone."""
        if name in self.shapes:
            self._free[self.shapes[name]].append(name)
