"""The names of the kernels of a PIM stack: sizes that are compiled in, as `KernelSpec`s.

It knows how a spec is filled in, and nothing of how a kernel is built.
"""

from __future__ import annotations

from tokenloom.backends.pim.operations.gemv_layout import GemvLayout, GemvSchedule
from tokenloom.backends.pim.stack import LEVELS, PimStack
from tokenloom.backends.pim.streams.stack_state import ARITHMETIC, Arithmetic
from tokenloom.kernel_spec import KernelSpec


def lanes_of(stack: PimStack, arithmetic: Arithmetic) -> int:
    """Return the elements of a column: 16 of FP16 or 32 of INT8 in 32 bytes."""
    return stack.column_bytes // ARITHMETIC[arithmetic].element.itemsize


def unit_dims(stack: PimStack, lanes: int) -> dict[str, int]:
    """Return the sizes of the levels of the SIDs that compute, and those of a unit."""
    return {
        "channels": stack.stacks * stack.channels,
        "pseudo_channels": stack.pseudo_channels,
        "sids": stack.pim_sids,
        "bank_groups": stack.bank_groups,
        "banks": stack.banks,
        "banks_per_unit": stack.unit.banks_per_unit,
        "columns": stack.columns,
        "column_bytes": stack.column_bytes,
        "lanes": lanes,
        "pim_rows": stack.pim_rows,
        "unit_registers": stack.unit.registers,
        "operand_entries": stack.unit.operand_entries,
    }


def elementwise_spec(
    op: str,
    stack: PimStack,
    tiles: int,
    registers: int,
    rows: int,
    level: str,
    by_channel: bool,
) -> KernelSpec:
    """Return the spec of `op` on `tiles` of `registers` columns a unit, `rows` rows an operand."""
    sizes = {
        "tiles": tiles,
        "registers": registers,
        "rows": rows,
        "level": LEVELS.index(level),
        "by_channel": int(by_channel),
    }
    return _spec(op, unit_dims(stack, stack.unit.lanes) | sizes, "fp16")


def gemv_spec(
    layout: GemvLayout, schedule: GemvSchedule, arithmetic: Arithmetic, op: str = "pim_gemv"
) -> KernelSpec:
    """Return the spec of a matrix-vector product; `result_rows` 0 leaves results in the base die.

    `op` is `pim_gemv` for its values or `pim_gemv_commands` for its commands.
    """
    tiles = dict(
        output_tiles=layout.output_tiles,
        input_tiles=layout.input_tiles,
        operands=layout.operands,
        registers=layout.registers,
        weight_rows=layout.weight_rows,
        result_rows=layout.result_rows if arithmetic == "fp16" else 0,
        level=LEVELS.index(schedule.level),
        by_channel=int(schedule.by_channel),
        operand_inner=int(schedule.operand_inner),
        banks_inner=int(schedule.banks_inner),
    )
    return _spec(op, unit_dims(layout.stack, layout.lanes) | tiles, arithmetic)


def _spec(op: str, dims: dict[str, int], arithmetic: Arithmetic) -> KernelSpec:
    return KernelSpec(op, tuple(sorted(dims.items())), (), arithmetic, "pim")
