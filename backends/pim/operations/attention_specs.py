"""The names of the attention kernels of a PIM stack: sizes that are compiled in, as `KernelSpec`s.

It knows how a spec is filled in, and nothing of how a kernel is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tokenloom.backends.pim.operations.schedule import AttentionSchedule
from tokenloom.backends.pim.stack import LEVELS, PimStack
from tokenloom.kernel_spec import KernelSpec


@dataclass(frozen=True)
class Heads:
    """Query heads, the KV heads that they share, and the dimensions of each."""

    num_heads: int
    num_kv_heads: int
    head_dim: int

    @classmethod
    def of(cls, spec: KernelSpec) -> Heads:
        """Take the heads out of the spec of an operation on KV pages."""
        return cls(spec.dim("num_heads"), spec.dim("num_kv_heads"), spec.dim("head_dim"))

    @property
    def per_kv(self) -> int:
        """Query heads that share a KV head."""
        return self.num_heads // self.num_kv_heads


Lowering = Literal["values", "commands", "totals"]
"""What a kernel does: compute, write its commands, or add them up."""


def append_spec(stack: PimStack, heads: Heads, lowering: Lowering = "values") -> KernelSpec:
    """Return the spec of `pim_append` in one of its lowerings."""
    op = _operation("pim_append", lowering)
    return KernelSpec(op, tuple(sorted(_dims(stack, heads).items())), device="pim")


def attention_spec(
    stack: PimStack, heads: Heads, schedule: AttentionSchedule, lowering: Lowering = "values"
) -> KernelSpec:
    """Return the spec of `pim_attention` by a schedule, in one of its lowerings."""
    op = _operation("pim_attention", lowering)
    dims = _dims(stack, heads) | {
        "level": LEVELS.index(schedule.level),
        "pass_major": int(schedule.pass_major),
        "phase_segments": schedule.phase_segments,
        "heads_together": schedule.heads_together,
    }
    return KernelSpec(op, tuple(sorted(dims.items())), device="pim")


def _operation(op: str, lowering: Lowering) -> str:
    return op if lowering == "values" else f"{op}_{lowering}"


def _dims(stack: PimStack, heads: Heads) -> dict[str, int]:
    return {
        **vars(heads),
        "channels": stack.stacks * stack.channels,
        "columns": stack.columns,
        "pseudo_channels": stack.pseudo_channels,
        "sids": stack.pim_sids,
        "pim_sids": stack.pim_sids,
        "bank_groups": stack.bank_groups,
        "banks": stack.banks,
        "lanes": stack.unit.lanes,
    }
