"""Whether a command stream names only what its stack has: units, rows, registers, flags.

It looks at each command alone; what must hold between commands is the interpreter's and the
checker's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tokenloom.backends.pim.errors import StreamError
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import (
    ALL,
    COLUMN_OPS,
    FLAGS,
    UNIT_OPS,
    CommandStream,
    Op,
)

MOVE_OPS = frozenset({Op.WR_GB, Op.MV_GB, Op.MV_SB})
"""Commands between the units and the base die; their `bank` counts the units of a bank group."""
_EVERY_OP = frozenset(Op)


@dataclass(frozen=True)
class _Limit:
    """`field` of `ops` lies in `range(stop)`, or may be ALL; `what` names what is counted."""

    field: str
    stop: int
    what: str
    ops: frozenset[Op] = _EVERY_OP
    or_all: bool = False


def check_fields(stream: CommandStream, stack: PimStack, element_bytes: int = 2) -> None:
    """Raise StreamError for the first field found that names something the stack does not have."""
    for limit in _limits(stack, element_bytes):
        values = stream.records[limit.field]
        wrong = (values >= limit.stop) | (values < (ALL if limit.or_all else 0))
        if limit.ops is not _EVERY_OP:
            wrong &= np.isin(stream.records["op"], list(limit.ops))
        if wrong.any():
            index = int(np.argmax(wrong))
            value = int(values[index])
            either = " or ALL" if limit.or_all else ""
            raise StreamError(
                f"{place(stream, index)}: {limit.field} is {'ALL' if value == ALL else value};"
                f" {limit.what} are 0 to {limit.stop - 1}{either}"
            )


def place(stream: CommandStream, index: int) -> str:
    """Return how a message names a command: stream, index and kind."""
    op = int(stream.records["op"][index])
    kind = Op(op).name if 0 <= op < len(Op) else "unknown"
    return f"{stream.name}: command {index} ({kind})"


def _limits(stack: PimStack, element_bytes: int) -> Iterator[_Limit]:
    unit = stack.unit
    yield _Limit("op", len(Op), "commands")
    yield _Limit("channel", stack.stacks * stack.channels, "channels", or_all=True)
    yield _Limit("pseudo_channel", stack.pseudo_channels, "pseudo channels", or_all=True)
    yield _Limit("sid", stack.sids, "SIDs", or_all=True)
    yield _Limit("sid", stack.pim_sids, "SIDs that compute", UNIT_OPS | MOVE_OPS, or_all=True)
    yield _Limit("bank_group", stack.bank_groups, "bank groups", or_all=True)
    yield _Limit("bank", stack.banks, "banks of a group", or_all=True)
    units = stack.banks // unit.banks_per_unit
    yield _Limit("bank", units, "units of a bank group", MOVE_OPS, or_all=True)
    if unit.banks_per_unit > 1:
        yield _Limit("bank", unit.banks_per_unit, "the banks of a unit, one at a time,", UNIT_OPS)
    yield _Limit("row", stack.rows, "rows", COLUMN_OPS | {Op.ACT})
    yield _Limit("row", stack.pim_rows, "rows of banks with units", UNIT_OPS)
    yield _Limit("column", stack.columns, "columns of a row", COLUMN_OPS)
    yield _Limit("dst", unit.registers, "registers of a unit", UNIT_OPS | {Op.MV_SB, Op.MV_GB})
    operands = frozenset({Op.MAC_TREE, Op.MAC_LANES, Op.MAC, Op.WR_GB, Op.MV_GB})
    yield _Limit("src", unit.operand_entries, "operand entries of a unit", operands)
    lanes = stack.column_bytes // element_bytes
    yield _Limit("lane", lanes, "lanes of an operand", frozenset({Op.MAC_LANES}))
    yield _Limit("lane", lanes, "lanes of a register", frozenset({Op.MAC_TREE, Op.MV_SB}))
    yield _Limit("flags", sum(FLAGS.values()) + 1, "sums of flags")
    for field in ("address", "size", "size_bytes"):
        yield _Limit(field, np.iinfo(np.int32).max, "values")
