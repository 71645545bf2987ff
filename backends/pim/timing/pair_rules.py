"""The constraints between two commands of a channel as a table, for the checker.

Written from the definitions of the constraints and the stack's description alone; it shares
nothing with the event model.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import UNIT_OPS, Op

READS = (UNIT_OPS - {Op.STORE}) | {Op.RD}
WRITES = frozenset({Op.STORE, Op.WR})
COLUMNS = READS | WRITES
PATH = frozenset({Op.WR_GB, Op.MV_GB, Op.MV_SB})
BASE_DIE = PATH | {Op.SFM, Op.ROT, Op.DMA, Op.GATHER, Op.BCAST}
ROWS = frozenset({Op.ACT, Op.PRE, Op.REF})
BURSTS = frozenset({Op.RD, Op.WR})

CHANNEL, PSEUDO_CHANNEL, SID, BANK_GROUP, BANK = range(5)
"""What two commands must share for a rule to hold between them."""


@dataclass(frozen=True)
class PairRule:
    """`second` comes at least `cycles` after `first` where both touch the same of `shared`."""

    name: str
    first: frozenset[Op]
    second: frozenset[Op]
    shared: int
    cycles: int


def pair_rules(stack: PimStack) -> tuple[PairRule, ...]:
    """Return all rules of the stack (JEDEC's names; those of units and moves are the stack's)."""
    t = stack.timing
    act, pre, ref = frozenset({Op.ACT}), frozenset({Op.PRE}), frozenset({Op.REF})
    written = t.cwl_cycles + t.bl_cycles
    turn = max(t.rtw_cycles, t.cl_cycles + t.bl_cycles + 2 - t.cwl_cycles)
    refresh = t.rfc_cycles
    if not refresh:
        refresh = t.rfc_bank_cycles + (stack.bank_groups * stack.banks - 1) * t.rrefd_cycles
    return (
        PairRule("row bus", act, ROWS, CHANNEL, 2),
        PairRule("row bus", pre | ref, ROWS, CHANNEL, 1),
        PairRule("column bus", COLUMNS | BASE_DIE, COLUMNS | BASE_DIE, CHANNEL, 1),
        PairRule("tRCD", act, READS, BANK, t.rcd_read_cycles),
        PairRule("tRCD of writes", act, WRITES, BANK, t.rcd_write_cycles),
        PairRule("tRAS", act, pre, BANK, t.ras_cycles),
        PairRule("tRC", act, act, BANK, t.rc_cycles),
        PairRule("tRP", pre, act | ref, BANK, t.rp_cycles),
        PairRule("tRTP", READS, pre, BANK, t.rtp_l_cycles),
        PairRule("tWR", WRITES, pre, BANK, written + t.wr_cycles),
        PairRule("tRRD_S", act, act, SID, t.rrd_s_cycles),
        PairRule("tRRD_L", act, act, BANK_GROUP, t.rrd_l_cycles),
        PairRule("tRFC", ref, ROWS, CHANNEL, refresh),
        PairRule("tCCD_R", COLUMNS, COLUMNS, PSEUDO_CHANNEL, t.ccd_r_cycles),
        PairRule("tCCD_S", COLUMNS, COLUMNS, SID, t.ccd_s_cycles),
        PairRule("tCCD_L", COLUMNS, COLUMNS, BANK_GROUP, t.ccd_l_cycles),
        PairRule("unit interval", UNIT_OPS, UNIT_OPS, CHANNEL, stack.mac_interval_cycles),
        PairRule("tWTR_S", WRITES, READS, PSEUDO_CHANNEL, written + t.wtr_s_cycles),
        PairRule("tWTR_L", WRITES, READS, BANK_GROUP, written + t.wtr_l_cycles),
        PairRule("tRTW", READS, WRITES, PSEUDO_CHANNEL, turn),
        PairRule("operand write interval", *_twice(Op.WR_GB), CHANNEL, t.write_interval_cycles),
        PairRule("move interval", PATH, PATH, CHANNEL, t.move_interval_cycles),
        PairRule("bus burst", BURSTS, PATH, CHANNEL, t.bl_cycles),
        PairRule("bus burst", PATH, BURSTS, CHANNEL, t.move_interval_cycles),
    )


def _twice(op: Op) -> tuple[frozenset[Op], frozenset[Op]]:
    return frozenset({op}), frozenset({op})
