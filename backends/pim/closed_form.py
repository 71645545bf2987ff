"""Cycles of kernels on a memory stack in closed form: what `timing` finds command by command."""

from __future__ import annotations

from math import ceil
from typing import Literal

from tokenloom.backends.pim.attention_shape import attention_shape
from tokenloom.backends.pim.stack import PimStack


def attention_cycles(
    stack: PimStack,
    heads: int,
    length: int,
    head_dim: int,
    element_bytes: int = 2,
    compat: Literal["attacc"] | None = None,
    heads_per_kv: int = 1,
) -> int:
    """Return the cycles of `heads` query heads of attention over `length` tokens on one stack."""
    if not heads or not length:
        return 0
    timing, interval = stack.timing, stack.mac_interval_cycles
    shape = attention_shape(stack, length, head_dim, element_bytes, heads_per_kv)
    serial = stack.level == "bank"
    switch = timing.rtp_l_cycles + timing.rp_cycles + timing.rcd_read_cycles
    rows = ceil(shape.score_columns / stack.columns)
    phase = (shape.score_macs - 1) * interval + (rows - 1) * serial * (switch - interval)
    write = timing.write_interval_cycles * (shape.writes - 1) + 2
    start = max(write, timing.first_mac_cycles)
    move = timing.move_interval_cycles
    out = shape.score_moves // ceil(shape.tokens / stack.unit.lanes)
    into = move if stack.level != "buffer" else timing.ccd_l_cycles
    moved = timing.move_after_mac_cycles + move * (out - 1) + 2
    moved += (
        into * (shape.probability_moves - 1) + 1 + ceil(length * timing.softmax_per_token_cycles)
    )
    gap = max(switch if serial else 0, moved)
    tail = timing.move_after_switch_cycles if rows > 1 else timing.move_after_mac_cycles
    tail += move * (shape.result_moves // shape.passes - 1) + 1
    rounds = ceil(heads / heads_per_kv / stack.channels)
    pairs, odd = divmod(rounds, 2)
    one = phase + gap + phase + tail
    two = 4 * phase + (3 if serial else 0) * switch + (0 if serial else 3 * interval) + tail
    end = start + pairs * two + odd * one
    if compat is None or serial:
        cost = timing.rfc_cycles + timing.rtp_l_cycles + 1 + timing.rcd_read_cycles
        return end + (cost - switch) * (end // timing.refi_cycles)
    cost = timing.rfc_cycles + timing.rcd_read_cycles
    due = timing.refi_cycles
    while due <= end:
        end, due = end + cost, due + timing.refi_cycles
    return end
