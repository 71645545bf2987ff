"""Whether attention or a matrix fits into one stack, and how much would.

It knows the stack's size and the shape of what is asked, nothing of what else lies there.
"""

from __future__ import annotations

from math import ceil

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.attention_shape import attention_shape
from tokenloom.backends.pim.stack import PimStack


def check_attention(
    stack: PimStack, heads: int, kv_heads: int, length: int, head_dim: int, element_bytes: int = 2
) -> None:
    """Raise DeviceError, with what to do, if one stack cannot hold the heads' keys and values."""
    check_computes(stack)
    if heads % kv_heads:
        raise DeviceError(
            f"pim: {heads} query heads cannot share {kv_heads} KV heads evenly;"
            f" give a number of KV heads that divides {heads}"
        )
    shape = attention_shape(stack, max(1, length), head_dim, element_bytes)
    if shape.columns > stack.columns:
        most = head_dim_of(stack, element_bytes)
        raise DeviceError(
            f"pim: a head dimension of {head_dim} takes {shape.columns} columns of a token in each"
            f" bank, and a row has {stack.columns}; at most {most} fit at level {stack.level}"
        )
    most = tokens_that_fit(stack, kv_heads, head_dim, element_bytes)
    if length > most:
        size = stack.pim_bytes // stack.stacks
        raise DeviceError(
            f"pim: {length:,} tokens of {kv_heads} KV heads of dimension {head_dim} do not fit into"
            f" the {size / 2**30:g} GiB of one stack; at most {most:,} tokens do"
        )


def check_gemv(stack: PimStack, rows: int, cols: int, element_bytes: int = 2) -> None:
    """Raise DeviceError if one stack cannot hold a matrix of `rows` x `cols`."""
    check_computes(stack)
    lanes = stack.column_bytes // element_bytes
    size, there = rows * ceil(cols / lanes) * stack.column_bytes, stack.pim_bytes // stack.stacks
    if size > there:
        most = there // (ceil(cols / lanes) * stack.column_bytes)
        raise DeviceError(
            f"pim: a matrix of {rows:,} x {cols:,} takes {size:,} bytes, one stack has {there:,};"
            f" at most {most:,} rows fit"
        )


def check_computes(stack: PimStack) -> None:
    """Raise DeviceError if no SID of the stack has units."""
    if not stack.computes:
        raise DeviceError("pim: no SID of this stack computes; take a machine with units")


def head_dim_of(stack: PimStack, element_bytes: int = 2) -> int:
    """Return the largest head dimension of which a token's part fits into a row."""
    banks = stack.banks if stack.level == "bank" else 1
    return stack.columns * banks * (stack.column_bytes // element_bytes)


def tokens_that_fit(stack: PimStack, kv_heads: int, head_dim: int, element_bytes: int = 2) -> int:
    """Return the most tokens whose keys and values one stack holds, for each of `kv_heads`.

    A KV head occupies one channel (AttAcc); the keys and the values of a head start a row each.
    """
    shape = attention_shape(stack, 1, head_dim, element_bytes)
    banks = stack.pseudo_channels * stack.pim_sids * stack.bank_groups * stack.banks
    lock_step = stack.banks if stack.level == "bank" else 1
    rows = stack.pim_rows * banks // (shape.slots * lock_step)
    rows_per_head = rows // ceil(kv_heads / stack.channels)
    keys = rows_per_head // 2 * stack.columns // shape.columns
    return keys * shape.slots
