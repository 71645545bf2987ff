# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUnknownArgumentType=false
# The parameters of macros are buffers and expressions of the script; they have no Python types.
"""What the base die computes in attention, in float32: softmax of a phase, and merging phases.

Probabilities are relative to the phase's largest score and rounded to FP16; phases are merged
online, in the order of the page table. It knows nothing of units and their columns.
"""

from __future__ import annotations

from tvm.script import tirx as T

from tokenloom.backends.kernels.pim_moves import base
from tokenloom.backends.kernels.pim_pages import COUNT, TOKENS, VISIBLE, WHERE
from tokenloom.backends.kernels.pim_record import command
from tokenloom.backends.kernels.vector import (
    LANES,
    NEGATIVE,
    constant,
    exp,
    fma,
    lane_max,
    lanes,
    spread,
)
from tokenloom.backends.pim.streams.commands import Op


@T.macro
def softmax_phase(b, head, task, plan):
    """Write the phase's FP16 probabilities, its largest score and their float32 sum."""
    elements = T.meta_var(b.control[COUNT] * plan.page_elements)
    vectors = T.meta_var((elements + LANES - 1) // LANES)
    before = T.meta_var((b.control[COUNT] - 1) * plan.page_elements)
    T.evaluate(
        command(
            Op.SFM,
            channel=b.places[WHERE, b.control[COUNT] - 1],
            address=base(plan, task, plan.score_base, head, plan.phase_elements),
            dst=base(plan, task, plan.state_base, head, 2),
            size=before + b.control[TOKENS],
        )
    )
    with T.sblock("softmax"):
        sums = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
        if plan.page_elements % LANES > 0:
            for element in T.serial(elements, vectors * LANES):
                b.scores[head, element] = T.float32(NEGATIVE)
        sums[lanes(0)] = b.scores[head, lanes(0)]
        for vector in T.serial(1, vectors):
            sums[lanes(0)] = T.max(sums[lanes(0)], b.scores[head, lanes(vector * LANES)])
        b.largest[head] = lane_max(sums[lanes(0)])
        sums[lanes(0)] = constant(0.0)
        for vector in T.serial(vectors):
            at = T.meta_var(lanes(vector * LANES))
            b.weights[head, at] = T.Cast(
                "float16x16", exp(b.scores[head, at] - spread(b.largest[head]))
            )
            sums[lanes(0)] = sums[lanes(0)] + T.Cast("float32x16", b.weights[head, at])
        b.total[head] = T.float32(0)
        for lane in T.serial(LANES):
            b.total[head] = b.total[head] + sums[lane]


@T.macro
def merge_phase(b, head, plan):
    """Merge a phase into the running result; `state[head]` is its largest score and its sum."""
    if b.largest[head] > T.float32(NEGATIVE):
        with T.sblock("merge"):
            old = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
            new = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
            sums = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
            both = T.meta_var(T.max(b.state[head, 0], b.largest[head]))
            old[lanes(0)] = exp(spread(b.state[head, 0] - both))
            new[lanes(0)] = exp(spread(b.largest[head] - both))
            for chunk in T.serial(plan.shape.chunks):
                at = T.meta_var(lanes(chunk * LANES))
                b.result[head, at] = fma(
                    b.sums[head, at], new[lanes(0)], b.result[head, at] * old[lanes(0)]
                )
            sums[lanes(0)] = fma(
                spread(b.total[head]), new[lanes(0)], spread(b.state[head, 1]) * old[lanes(0)]
            )
            b.state[head, 1] = sums[0]
            b.state[head, 0] = both


@T.macro
def gather_phase(b, task, plan):
    """Say that the base die collects one of several phases from its channel to merge it."""
    if b.control[VISIBLE] > plan.phase_pages:
        for head in T.serial(plan.heads):
            T.evaluate(
                command(
                    Op.GATHER,
                    channel=b.places[WHERE, b.control[COUNT] - 1],
                    address=base(plan, task, plan.result_base, head, plan.shape.padded),
                    size=plan.shape.head_dim,
                    size_bytes=4 * plan.shape.head_dim,
                )
            )
