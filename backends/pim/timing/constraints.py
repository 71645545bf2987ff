"""The least cycles between two commands, taken from a stack's description.

Numbers only, for the event model; the checker derives its own from the same description.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

from tokenloom.backends.pim.errors import StreamError
from tokenloom.backends.pim.stack import PimStack

Compat = Literal["attacc"]

ACTIVATE_SLOTS = 2
"""Cycles for which an ACT takes the row bus: HBM3 has 2-cycle activates (AttAcc simulator); HBM4
has 1.5 (Ramulator 2.1), here rounded up. PRE and REF take one."""
WRITE_PREAMBLE = 2
"""Cycles of the data bus between reading and writing, tWPRE of 1 (AttAcc simulator)."""


@dataclass(frozen=True)
class Constraints:
    """All in cycles, between the issues of two commands.

    `unit`: two commands of units. `column_*`: two column commands of a bank group, of a SID, of a
    pseudo channel. `activate_*` likewise; `four_activates` spans five activates of one bank in a
    SID. `probability`: two MV_GB. `refresh_every` is 0 where nothing is refreshed;
    a refresh may be late by `refresh_wait` to use up open rows. `*_elements` of the base die's
    memory are read by one WR_GB and one MV_GB.
    """

    unit: int
    column_group: int
    column_sid: int
    column_any: int
    to_read: int
    to_write_column: int
    row_open: int
    row_cycle: int
    read_to_precharge: int
    write_to_precharge: int
    precharge: int
    precharge_to_refresh: int
    activate_group: int
    activate_sid: int
    four_activates: int
    write_to_read_group: int
    write_to_read: int
    read_to_write: int
    refresh: int
    refresh_every: int
    refresh_wait: int
    first_mac: int
    move_after_mac: int
    move_after_switch: int
    operand_write: int
    move: int
    probability: int
    burst: int
    read_latency: int
    write_latency: int
    softmax_per_token: float
    operand_elements: int
    slot_elements: int
    transfer_bytes: float
    dma_bytes: float

    @classmethod
    def of(cls, stack: PimStack, compat: Compat | None = None, refresh: bool = True) -> Constraints:
        """Take them from a description; `compat` see `timing`.

        StreamError: refreshes take longer than the time between two.
        """
        if refresh and refresh_cycles(stack) >= stack.timing.refi_cycles:
            raise StreamError(
                f"a refresh takes {refresh_cycles(stack)} cycles and one is due every"
                f" {stack.timing.refi_cycles}; the stack can do nothing else"
            )
        timing, original = stack.timing, compat == "attacc"
        write = timing.cwl_cycles + timing.bl_cycles
        bus = timing.cl_cycles + timing.bl_cycles + WRITE_PREAMBLE - timing.cwl_cycles
        slow = original and stack.level == "buffer"
        cycle_s = timing.cycle_ns * 1e-9 / (stack.stacks * stack.channels)  # of one channel
        return cls(
            unit=stack.mac_interval_cycles,
            column_group=timing.ccd_l_cycles,
            column_sid=timing.ccd_s_cycles,
            column_any=timing.ccd_r_cycles,
            to_read=timing.rcd_read_cycles,
            to_write_column=timing.rcd_write_cycles,
            row_open=timing.ras_cycles,
            row_cycle=timing.rc_cycles,
            read_to_precharge=timing.rtp_l_cycles,
            write_to_precharge=write + timing.wr_cycles,
            precharge=timing.rp_cycles,
            precharge_to_refresh=1 if original else timing.rp_cycles,
            activate_group=0 if original else timing.rrd_l_cycles,
            activate_sid=0 if original else timing.rrd_s_cycles,
            four_activates=0 if original else timing.faw_cycles,
            write_to_read_group=write + timing.wtr_l_cycles,
            write_to_read=write + timing.wtr_s_cycles,
            read_to_write=max(timing.rtw_cycles, bus),
            refresh=refresh_cycles(stack),
            refresh_wait=0 if original and stack.level != "bank" else refresh_cycles(stack),
            refresh_every=timing.refi_cycles if refresh else 0,
            first_mac=timing.first_mac_cycles,
            move_after_mac=timing.move_after_mac_cycles,
            move_after_switch=timing.move_after_switch_cycles,
            operand_write=timing.write_interval_cycles,
            move=timing.move_interval_cycles,
            probability=timing.ccd_l_cycles if slow else timing.move_interval_cycles,
            burst=timing.bl_cycles,
            read_latency=timing.cl_cycles + timing.bl_cycles,
            write_latency=write,
            softmax_per_token=timing.softmax_per_token_cycles,
            operand_elements=stack.unit.lanes,
            slot_elements=stack.unit.lanes * slots(stack),
            transfer_bytes=stack.bandwidth_bytes_per_s * cycle_s,
            dma_bytes=stack.dma_bandwidth_bytes_per_s * cycle_s,
        )

    def duration(self, size_bytes: int, dma: bool) -> int:
        """Return the cycles for which `size_bytes` take the base die's path or its DMA engine."""
        return max(self.move, ceil(size_bytes / (self.dma_bytes if dma else self.transfer_bytes)))


def refresh_cycles(stack: PimStack) -> int:
    """Return how long a refresh of all banks of a channel takes.

    Where the stack refreshes bank by bank, the banks of a SID follow each other by `rrefd`.
    """
    timing = stack.timing
    if timing.rfc_cycles:
        return timing.rfc_cycles
    return timing.rfc_bank_cycles + (stack.bank_groups * stack.banks - 1) * timing.rrefd_cycles


def slots(stack: PimStack) -> int:
    """Return how many slots a channel has: units work on as many tokens at a time."""
    groups = stack.pim_sids * stack.bank_groups if stack.level != "buffer" else 1
    return stack.pseudo_channels * groups
