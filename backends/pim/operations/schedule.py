"""How attention is laid out in time on a stack: the choices that its kernels are compiled with.

A *segment* is SEGMENT_PAGES pages of a head, a *phase* one or more segments: scores of all of it,
softmax, context of all of it. Plain data; it builds nothing and knows no cycles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.layout import PAGE_TOKENS
from tokenloom.backends.pim.stack import PimStack

SEGMENT_PAGES = 16
"""Pages whose scores fill the lanes of a register where each slot holds one token of a page."""
SEGMENT_TOKENS = SEGMENT_PAGES * PAGE_TOKENS


@dataclass(frozen=True)
class AttentionSchedule:
    """One way to do attention.

    `level`: where the units sit that one command reaches; at bank-group and buffer level banks are
    loops around the pages. `pass_major`: a context phase adds 16 dimensions a bank for all pages
    of a segment, then the next 16; else all dimensions of a page, then the next page.
    `phase_segments`: segments that are scored before their softmax. `heads_together`: query heads
    that read a column of K or V one after the other while its row is open.
    """

    level: str = "bank"
    pass_major: bool = True
    phase_segments: int = 1
    heads_together: int = 1

    @property
    def label(self) -> str:
        """The choices in words."""
        order = "pass by pass" if self.pass_major else "page by page"
        together = f"{self.heads_together} query heads together"
        return (
            f"softmax every {self.phase_segments * SEGMENT_TOKENS} tokens, {order},"
            f" {together if self.heads_together > 1 else 'one query head at a time'}"
        )


@dataclass(frozen=True)
class UnitNeeds:
    """Registers and operand entries that a unit needs for a schedule.

    Scores take `score_registers`, two sets so that one moves out while the next fills; context
    takes `context_registers`. Queries take `query_entries`, probabilities `weight_entries`.
    """

    score_registers: int
    context_registers: int
    query_entries: int
    weight_entries: int

    @property
    def registers(self) -> int:
        """Accumulators of one head of a channel."""
        return 2 * self.score_registers + self.context_registers

    @property
    def entries(self) -> int:
        """Operand entries of one head of a channel."""
        return self.query_entries + self.weight_entries


def slots_of(stack: PimStack) -> int:
    """Return the bank groups of a channel that compute: each works on a token of its own."""
    return stack.pseudo_channels * stack.pim_sids * stack.bank_groups


def unit_needs(stack: PimStack, head_dim: int, schedule: AttentionSchedule) -> UnitNeeds:
    """Return what a schedule takes of each unit. DeviceError: the stack has no computing SID."""
    if not slots_of(stack):
        raise DeviceError("pim: a stack without computing SIDs runs no attention")
    steps = -(-PAGE_TOKENS // slots_of(stack))
    passes = -(-head_dim // (stack.unit.lanes * stack.banks))
    heads = schedule.heads_together
    return UnitNeeds(
        score_registers=heads * steps,
        context_registers=heads * passes,
        query_entries=heads * passes,
        weight_entries=heads * steps * schedule.phase_segments,
    )


def check_schedule(
    stack: PimStack, head_dim: int, heads_per_kv: int, schedule: AttentionSchedule
) -> None:
    """Raise DeviceError where the stack cannot run a schedule; it names what is missing."""
    needs, unit = unit_needs(stack, head_dim, schedule), stack.unit
    shared = prod(_shared_banks(stack, schedule.level))
    problems = {
        f"a unit in every bank, one serves {unit.banks_per_unit} here": unit.banks_per_unit > 1,
        f"units at level {schedule.level}": schedule.level not in stack.levels,
        f"heads_together {schedule.heads_together} to divide the {heads_per_kv} query heads of a"
        " KV head": heads_per_kv % schedule.heads_together > 0,
        f"{needs.registers} registers, a unit has {unit.registers}": (
            needs.registers > unit.registers * shared
        ),
        f"{needs.entries} operand entries, a unit has {unit.operand_entries}": (
            needs.entries > unit.operand_entries * shared
        ),
    }
    for problem, wrong in problems.items():
        if wrong:
            raise DeviceError(f"pim: attention with head dimension {head_dim} needs {problem}")


def default_schedule(stack: PimStack, head_dim: int, heads_per_kv: int) -> AttentionSchedule:
    """Return what the device runs: units at banks, a softmax a segment, the most heads that fit.

    DeviceError: not even one query head fits the units.
    """
    counts = [count for count in range(heads_per_kv, 0, -1) if heads_per_kv % count == 0]
    for count in counts[:-1]:
        schedule = AttentionSchedule(heads_together=count)
        if _runs(stack, head_dim, heads_per_kv, schedule):
            return schedule
    check_schedule(stack, head_dim, heads_per_kv, AttentionSchedule())
    return AttentionSchedule()


def candidates(
    stack: PimStack, head_dim: int, heads_per_kv: int, length: int
) -> Iterator[AttentionSchedule]:
    """Yield the schedules that the stack can run for `length` tokens, at its own level.

    Phases are 1, 2, 4 and so on segments, or the whole length.
    """
    whole = max(1, -(-length // SEGMENT_TOKENS))
    phases = sorted({1 << power for power in range(whole.bit_length())} | {whole})
    for together in range(heads_per_kv, 0, -1):
        for segments in phases:
            for pass_major in (True, False):
                schedule = AttentionSchedule(stack.level, pass_major, segments, together)
                if _runs(stack, head_dim, heads_per_kv, schedule):
                    yield schedule


def _runs(stack: PimStack, head_dim: int, heads_per_kv: int, schedule: AttentionSchedule) -> bool:
    try:
        check_schedule(stack, head_dim, heads_per_kv, schedule)
    except DeviceError:
        return False
    return True


def _shared_banks(stack: PimStack, level: str) -> tuple[int, ...]:
    """Return over what the registers of a unit at a level are shared: it has those of its banks."""
    levels: dict[str, tuple[int, ...]] = {
        "bank-group": (stack.banks,),
        "buffer": (stack.banks, stack.bank_groups, stack.pim_sids),
    }
    return levels.get(level, ())
