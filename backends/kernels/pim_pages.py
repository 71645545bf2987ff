# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUnknownArgumentType=false
# The parameters of macros are buffers and expressions of the script; they have no Python types.
"""What the base die finds in a page table: where a phase's pages lie, and which can be read as one.

A *run* is pages of one segment that follow each other in the table and lie in one channel, in one
frame: the units work on them without new queries. Everything here is control state: it decides
which commands there are, and is kept where commands are recorded. It computes no values.
"""

from __future__ import annotations

from tvm.script import tirx as T

from tokenloom.backends.pim.operations.schedule import SEGMENT_PAGES

VISIBLE, FIRST, COUNT, TOKENS, RUNS, CHANNEL, FRAME, ENTRY, SIZE = range(9)
"""Of `control`: pages that the row sees; the phase's first entry in the tables, its pages, and the
tokens seen up to the last; its runs; channel and frame of the queries that units hold; the run at
hand."""
ROW, COLUMN, WHERE, RUN_ENTRY, RUN_SIZE = range(5)
"""Of `places`: row, first column and channel of each page of the phase; its runs."""

NOWHERE = -1


@T.macro
def count_visible(a, b, row, begin, end):
    """Count the pages that the row sees: those that begin no later than it stands."""
    b.control[VISIBLE] = 0
    for entry in T.serial(begin, end):
        if a.page_positions[entry] <= a.positions[row]:
            b.control[VISIBLE] = entry - begin + 1


@T.macro
def find_pages(a, b, row, kv_head, begin, phase, plan):
    """Find the places of a phase's pages, and its runs."""
    b.control[FIRST] = begin + phase * plan.phase_pages
    b.control[COUNT] = T.min(plan.phase_pages, b.control[VISIBLE] - phase * plan.phase_pages)
    b.control[RUNS] = 0
    for entry in T.serial(b.control[COUNT]):
        page = T.meta_var(b.control[FIRST] + entry)
        tile = T.meta_var(plan.shape.tile(a.pages[page], kv_head, a.stripe))
        b.places[ROW, entry] = tile[0]
        b.places[WHERE, entry] = tile[1]
        b.places[COLUMN, entry] = tile[2]
        last = T.meta_var(T.max(entry - 1, 0))
        if (
            entry % SEGMENT_PAGES == 0
            or tile[1] != b.places[WHERE, last]
            or a.frame_starts[page] != a.frame_starts[T.max(page - 1, 0)]
        ):
            b.places[RUN_ENTRY, b.control[RUNS]] = entry
            b.places[RUN_SIZE, b.control[RUNS]] = 0
            b.control[RUNS] = b.control[RUNS] + 1
        b.places[RUN_SIZE, b.control[RUNS] - 1] = b.places[RUN_SIZE, b.control[RUNS] - 1] + 1
    page = T.meta_var(b.control[FIRST] + b.control[COUNT] - 1)
    seen = T.meta_var(T.min(a.positions[row] - a.page_positions[page] + 1, a.page_lengths[page]))
    b.control[TOKENS] = T.max(seen, 0)


@T.macro
def take_run(b, run):
    """Make a run the one at hand."""
    b.control[ENTRY] = b.places[RUN_ENTRY, run]
    b.control[SIZE] = b.places[RUN_SIZE, run]
