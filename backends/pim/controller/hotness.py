"""How often KV blocks are read, as a decaying count, and how often they will be.

The formulas are ours: TokenStack's policy is not public. It knows nothing of tiers and of time;
a window is what its user says (a decode step, a second).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from math import exp

from tokenloom.backends.pim.controller.kv_shape import BlockId

FORGOTTEN = 1e-6
"""Reads a window below which a block is no longer remembered."""


class Hotness:
    """`H <- decay * H + reads` of each block, once a window.

    Blocks of requests that decode are expected to be read on at their rate. Those of finished ones
    cool with the half-life of their kind of work. ValueError: `decay` is not in [0, 1).
    """

    def __init__(self, decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.decay = decay
        self._counts: dict[BlockId, float] = {}
        self._cooling: dict[BlockId, float] = {}

    @property
    def blocks(self) -> Collection[BlockId]:
        """Blocks that are remembered."""
        return self._counts.keys()

    def observe(self, reads: Mapping[BlockId, float]) -> None:
        """Count the reads of one window; a finished block that is read is in use again."""
        for block in reads:
            self._cooling.pop(block, None)
        for block in {*self._counts, *reads}:
            count = self.decay * self._counts.get(block, 0.0) + reads.get(block, 0.0)
            self._counts[block] = count
            if count * (1 - self.decay) < FORGOTTEN:
                self.forget([block])

    def finish(self, blocks: Iterable[BlockId], half_life_windows: float) -> None:
        """Say that the request of these blocks is over; chats return sooner than batch jobs.

        ValueError: the half-life is not positive.
        """
        if half_life_windows <= 0:
            raise ValueError(f"half_life_windows must be positive, got {half_life_windows}")
        for block in blocks:
            self._cooling[block] = 0.5 ** (1 / half_life_windows)

    def forget(self, blocks: Iterable[BlockId]) -> None:
        """Drop blocks that are no more."""
        for block in blocks:
            self._counts.pop(block, None)
            self._cooling.pop(block, None)

    def rate(self, block: BlockId) -> float:
        """Return the reads a window: the count that a steady rate would have left, undone."""
        return (1 - self.decay) * self._counts.get(block, 0.0)

    def expected_reads(self, block: BlockId, windows: int) -> float:
        """Return the reads expected in the next windows."""
        cooling = self._cooling.get(block)
        if cooling is None:
            return self.rate(block) * windows
        return self.rate(block) * cooling * (1 - cooling**windows) / (1 - cooling)

    def reuse_probability(self, block: BlockId) -> float:
        """Return the chance of a read in the next window, reads coming independently (Poisson)."""
        return 1 - exp(-self.expected_reads(block, 1))
