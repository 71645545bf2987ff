"""The arrays of one engine step: which rows it computes, and where their KV lies.

It knows nothing of devices, or of why these rows were chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokenloom.runtime.pages import IntArray, PageTable


@dataclass(frozen=True)
class Chunk:
    """Rows of one request: its tokens from `table.num_tokens - len(tokens)` on, and their slots.

    The table has room for them already. `wants_logits` asks for the logits of the last of them.
    """

    tokens: IntArray
    slots: IntArray
    table: PageTable
    wants_logits: bool


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
    counts = np.array([len(chunk.tokens) for chunk in chunks], np.int32)
    ends = np.cumsum(counts, dtype=np.int32)
    num_tokens = np.array([chunk.table.num_tokens for chunk in chunks], np.int32)
    frame_starts = np.array([chunk.table.frame_start for chunk in chunks], np.int32)
    rows = np.arange(ends[-1], dtype=np.int32)
    positions = rows + np.repeat(num_tokens - ends, counts)
    entries = np.concatenate([chunk.table.entries for chunk in chunks], axis=1)
    offsets = np.zeros(len(chunks) + 1, np.int32)
    np.cumsum([chunk.table.num_pages for chunk in chunks], out=offsets[1:])
    wanted = [chunk.wants_logits for chunk in chunks]
    inputs = {
        "tokens": np.concatenate([chunk.tokens for chunk in chunks]),
        "positions": positions,
        "frame_positions": positions - np.repeat(frame_starts, counts),
        "row_requests": np.repeat(np.arange(len(chunks), dtype=np.int32), counts),
        "slots": np.concatenate([chunk.slots for chunk in chunks]),
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
