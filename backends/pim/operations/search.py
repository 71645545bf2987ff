"""Which schedule a kernel gets on a stack: closed forms score all, the event model the best few.

It knows how schedules are compared, and their costs by `gemv_model`, `attention_model` and
`timing`. It runs no kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Generic, TypeVar

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.operations.gemv import Gemv
from tokenloom.backends.pim.operations.gemv_layout import GemvLayout, GemvSchedule
from tokenloom.backends.pim.operations.kernel_stream import heads_stream
from tokenloom.backends.pim.operations.program import banks_for
from tokenloom.backends.pim.operations.schedule import AttentionSchedule, candidates, check_schedule
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import CommandStream
from tokenloom.backends.pim.streams.rows import with_rows
from tokenloom.backends.pim.timing.attention_model import schedule_cycles
from tokenloom.backends.pim.timing.event_model import time_stream
from tokenloom.backends.pim.timing.gemv_model import gemv_cycles

Schedule = TypeVar("Schedule")

REFEREED = 3
"""Schedules that are timed command by command; their streams are compiled, a second each."""
QUOTED = 4
"""Schedules that a choice keeps, the chosen one included."""


@dataclass(frozen=True)
class Scored(Generic[Schedule]):
    """A schedule, its cycles in closed form, and those of the event model where it was asked."""

    schedule: Schedule
    closed_cycles: int
    event_cycles: int | None = None

    @property
    def cycles(self) -> int:
        """The best that is known."""
        return self.closed_cycles if self.event_cycles is None else self.event_cycles


@dataclass(frozen=True)
class Choice(Generic[Schedule]):
    """The schedule that takes least, the runners-up in order, and why."""

    chosen: Scored[Schedule]
    runners_up: tuple[Scored[Schedule], ...]
    reason: str


def search_gemv(
    stack: PimStack, outputs: int, inputs: int, refereed: int = REFEREED
) -> Choice[GemvSchedule]:
    """Return the schedule of an FP16 product that takes the fewest cycles on one stack.

    DeviceError: no schedule fits the rows.
    """
    one = replace(stack, stacks=1)

    def closed(schedule: GemvSchedule) -> int:
        return gemv_cycles(GemvLayout.of(one, outputs, inputs, schedule), schedule)

    def timed(schedule: GemvSchedule) -> int:
        layout = GemvLayout.of(one, outputs, inputs, schedule)
        banks = banks_for(one, layout.check_rows(stores=True))
        stream = Gemv(layout, schedule, "fp16", banks, first_row=0, machine="").stream()
        return _event_cycles(stream, one)

    schedules = list(_gemv_schedules(one, outputs, inputs))
    return choose(schedules, closed, timed, refereed)


def search_attention(
    stack: PimStack,
    heads: int,
    length: int,
    head_dim: int,
    heads_per_kv: int = 1,
    refereed: int = REFEREED,
) -> Choice[AttentionSchedule]:
    """Return the schedule for `heads` query heads over `length` tokens on one stack.

    DeviceError: the units can run none, see `runs_attention`.
    """
    lacking = runs_attention(stack, head_dim, heads_per_kv)
    if lacking:
        raise DeviceError(lacking)
    one = replace(stack, stacks=1)
    rounds = ceil(heads / heads_per_kv / one.channels)

    def closed(schedule: AttentionSchedule) -> int:
        return schedule_cycles(one, rounds, length, head_dim, heads_per_kv, schedule)

    def timed(schedule: AttentionSchedule) -> int:
        stream = heads_stream(one, heads, length, head_dim, schedule, heads_per_kv)
        return _event_cycles(stream, one)

    schedules = list(candidates(one, head_dim, heads_per_kv, length))
    return choose(schedules, closed, timed, refereed)


def runs_attention(stack: PimStack, head_dim: int, heads_per_kv: int) -> str:
    """Return what units lack for the schedule that needs least, "" where they run attention."""
    try:
        check_schedule(stack, head_dim, heads_per_kv, AttentionSchedule(stack.level))
    except DeviceError as error:
        return str(error)
    return ""


def choose(
    schedules: Iterable[Schedule],
    closed: Callable[[Schedule], int],
    timed: Callable[[Schedule], int],
    refereed: int,
) -> Choice[Schedule]:
    """Return the best of `schedules`, of which there is one: of equals, the first.

    All are scored by `closed`, the `refereed` best by `timed`.
    """
    scored = sorted(
        (Scored(schedule, closed(schedule)) for schedule in schedules),
        key=lambda one: one.closed_cycles,
    )
    best = [replace(one, event_cycles=timed(one.schedule)) for one in scored[:refereed]]
    order = [*sorted(best, key=lambda one: one.cycles), *scored[len(best) :]]
    return Choice(order[0], tuple(order[1:QUOTED]), _reason(order, len(best)))


def _reason(order: list[Scored[Schedule]], refereed: int) -> str:
    count, chosen = len(order), order[0]
    how = f"least of {count} schedules by the closed form"
    if refereed:
        how = f"{count} schedules by the closed form, the best {refereed} command by command"
    if count == 1:
        return "the only schedule that the units can run"
    more = order[1].cycles / chosen.cycles - 1
    return f"{how}; the next takes {more:.1%} more" if more else f"{how}; the next is as quick"


def _event_cycles(stream: CommandStream, stack: PimStack) -> int:
    return time_stream(with_rows(stream, stack), stack).cycles


def _gemv_schedules(stack: PimStack, outputs: int, inputs: int) -> Iterator[GemvSchedule]:
    """Yield tilings by powers of two and orders, each layout once; larger tiles first."""
    seen: set[GemvSchedule] = set()
    orders = [(inner, banks) for inner in (False, True) for banks in (False, True)]
    for operands in _powers(stack.unit.operand_entries):
        for registers in _powers(stack.unit.registers):
            for operand_inner, banks_inner in orders:
                if banks_inner and stack.level == "bank":
                    continue
                asked = GemvSchedule(
                    operands, registers, stack.level, False, operand_inner, banks_inner
                )
                layout = GemvLayout.of(stack, outputs, inputs, asked)
                cut = replace(asked, operands=layout.operands, registers=layout.registers)
                if cut not in seen and _fits(layout):
                    seen.add(cut)
                    yield cut
    if not seen:
        smallest = GemvLayout.of(stack, outputs, inputs, GemvSchedule(1, 1, stack.level))
        smallest.check_rows(stores=True)


def _fits(layout: GemvLayout) -> bool:
    return layout.weight_rows + layout.result_rows <= layout.stack.pim_rows


def _powers(most: int) -> list[int]:
    return [1 << power for power in reversed(range(most.bit_length()))]
