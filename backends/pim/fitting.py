"""Whether attention fits into one stack, and how much would.

It knows the stack's size and the shape of what is asked, nothing of what else lies there.
"""

from __future__ import annotations

from math import ceil

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.timing.attention_shape import attention_shape


def check_attention(
    stack: PimStack, heads: int, kv_heads: int, length: int, head_dim: int, element_bytes: int = 2
) -> None:
    """Raise DeviceError, with what to do, if one stack cannot hold the heads' keys and values.

    StreamError: the units have no room for one query.
    """
    check_computes(stack)
    if heads % kv_heads:
        raise DeviceError(
            f"pim: {heads} query heads cannot share {kv_heads} KV heads evenly;"
            f" give a number of KV heads that divides {heads}"
        )
    most = tokens_that_fit(stack, kv_heads, head_dim, element_bytes)
    if length > most:
        size = stack.pim_bytes // stack.stacks
        raise DeviceError(
            f"pim: {length:,} tokens of {kv_heads} KV heads of dimension {head_dim} do not fit into"
            f" the {size / 2**30:g} GiB of one stack; at most {most:,} tokens do"
        )


def check_computes(stack: PimStack) -> None:
    """Raise DeviceError if no SID of the stack has units."""
    if not stack.computes:
        raise DeviceError("pim: no SID of this stack computes; take a machine with units")


def tokens_that_fit(stack: PimStack, kv_heads: int, head_dim: int, element_bytes: int = 2) -> int:
    """Return the most tokens whose keys and values one stack holds, for each of `kv_heads`.

    A KV head occupies one channel (AttAcc); the keys and the values of a head start a row each.
    StreamError: the units have no room for one query.
    """
    shape = attention_shape(stack, 1, head_dim, element_bytes)
    banks = stack.pseudo_channels * stack.pim_sids * stack.bank_groups * stack.banks
    lock_step = stack.banks if stack.level == "bank" else 1
    rows = stack.pim_rows * banks // (shape.slots * lock_step)
    rows_per_head = rows // ceil(kv_heads / stack.channels)
    keys = rows_per_head // 2 * stack.columns // shape.columns
    return keys * shape.slots
