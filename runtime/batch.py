"""The arrays of one engine step: which rows it computes, and where their KV lies.

It knows nothing of devices, or of why these rows were chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tokenloom.runtime.pages import IntArray, PageTable


class Rows(NamedTuple):
    """Tokens of one request from `position` on, in the frame that starts there, and their slots."""

    tokens: IntArray
    slots: IntArray
    position: int
    frame_start: int


@dataclass(frozen=True)
class Chunk:
    """What one request computes, run by run.

    The table has room for it already. `wants_logits` asks for the logits of the last row.
    """

    rows: tuple[Rows, ...]
    table: PageTable
    wants_logits: bool

    @property
    def num_rows(self) -> int:
        """How many tokens are computed."""
        if len(self.rows) == 1:
            return len(self.rows[0].tokens)
        return sum(len(rows.tokens) for rows in self.rows)


@dataclass(frozen=True)
class StepBatch:
    """What `ModelRunner.run` needs: inputs by their well-known names, and the numbers of rows.

    The first `num_decode` requests have one row each, a decode row. `copies` are pages to copy
    before anything else, from and to. `staged` are the pages that `staged_pages` renumbers.
    """

    inputs: dict[str, IntArray]
    num_rows: int
    num_decode: int
    num_logits: int
    copies: list[tuple[int, int]]
    staged: IntArray


def build_batch(
    decode: Sequence[Chunk],
    prefill: Sequence[Chunk],
    copies: list[tuple[int, int]],
    *,
    stage: bool,
) -> StepBatch:
    """Lay out a step: decode rows, then prefill rows. `stage` fills `staged_pages` too."""
    chunks = [*decode, *prefill]
    counts = np.array([chunk.num_rows for chunk in chunks], np.int32)
    ends = np.cumsum(counts, dtype=np.int32)
    rows = [rows for chunk in chunks for rows in chunk.rows]
    lengths = np.array([len(one.tokens) for one in rows], np.int32)
    firsts = np.array([one.position for one in rows], np.int32)
    frame_starts = np.array([one.frame_start for one in rows], np.int32)
    before = np.cumsum(lengths, dtype=np.int32) - lengths
    positions = np.arange(ends[-1], dtype=np.int32) + np.repeat(firsts - before, lengths)
    entries = np.concatenate([chunk.table.entries for chunk in chunks], axis=1)
    offsets = np.zeros(len(chunks) + 1, np.int32)
    np.cumsum([chunk.table.num_pages for chunk in chunks], out=offsets[1:])
    wanted = [chunk.wants_logits for chunk in chunks]
    inputs = {
        "tokens": np.concatenate([one.tokens for one in rows]),
        "positions": positions,
        "frame_positions": positions - np.repeat(frame_starts, lengths),
        "row_requests": np.repeat(np.arange(len(chunks), dtype=np.int32), counts),
        "slots": np.concatenate([one.slots for one in rows]),
        "table_offsets": offsets,
        "pages": entries[0],
        "frame_starts": entries[1],
        "page_positions": entries[2],
        "page_lengths": entries[3],
        "logit_rows": ends[wanted] - 1,
    }
    staged = np.zeros(0, np.int32)
    if stage:
        first = offsets[len(decode)]
        staged, renumbered = np.unique(entries[0, first:], return_inverse=True)
        inputs["staged_pages"] = np.concatenate(
            [np.zeros(first, np.int32), renumbered.astype(np.int32)]
        )
    return StepBatch(inputs, int(ends[-1]), len(decode), sum(wanted), copies, staged)
