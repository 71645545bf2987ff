"""Asks and tool calls as events that wait for each other: the longest path, slack, total time.

Times are in nanoseconds from the start of the workflow. Knows nothing of IR or of token counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tokenloom.compiler.analysis.estimates import AT_START

StepTime = Callable[[int, int], float]
"""(batch, context tokens) -> time of one decode step."""


@dataclass(slots=True)
class Event:
    """Something that takes `duration_ns` once all of `after` is done.

    `prefill_ns` is the part of an ask that it does not share; its `decode_tokens` steps are taken
    together with those of other asks, at `context` tokens. A tool has a duration alone.
    """

    after: tuple[int, ...]
    duration_ns: float
    start_ns: float
    depth: int
    prefill_ns: float = 0.0
    decode_tokens: int = 0
    context: int = 0
    step_ns: StepTime | None = None
    remaining_ns: float = 0.0

    @property
    def end_ns(self) -> float:
        """When it is done, if nothing else uses the machine."""
        return self.start_ns + self.duration_ns


class Timeline:
    """Events in an order in which each stands behind what it waits for."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def ask(
        self, after: Iterable[int], prefill_ns: float, tokens: int, context: int, step_ns: StepTime
    ) -> int:
        """Add an ask: a prefill, then `tokens` decode steps at about `context` tokens."""
        alone_ns = prefill_ns + tokens * step_ns(1, context)
        index = self.tool(after, alone_ns)
        event = self.events[index]
        event.prefill_ns, event.decode_tokens, event.context = prefill_ns, tokens, context
        event.step_ns = step_ns
        return index

    def tool(self, after: Iterable[int], duration_ns: float) -> int:
        """Add something that takes its own time whatever else runs."""
        return self._add(after, duration_ns, depth=1)

    def join(self, after: Iterable[int]) -> int:
        """Return an event that is done when all of `after` are."""
        events = set(after)
        events.discard(AT_START)
        if len(events) <= 1:
            return events.pop() if events else AT_START
        return self._add(events, 0.0, depth=0)

    def _add(self, after: Iterable[int], duration_ns: float, depth: int) -> int:
        before = tuple(sorted({event for event in after if event != AT_START}))
        start_ns = max((self.events[event].end_ns for event in before), default=0.0)
        below = max((self.events[event].depth for event in before), default=0)
        self.events.append(Event(before, duration_ns, start_ns, below + depth))
        return len(self.events) - 1

    def finish(self) -> float:
        """Fill in `remaining_ns`, the longest way to the end; return the critical path's time."""
        for event in reversed(self.events):
            event.remaining_ns += event.duration_ns
            for before in event.after:
                other = self.events[before]
                other.remaining_ns = max(other.remaining_ns, event.remaining_ns)
        return max((event.end_ns for event in self.events), default=0.0)

    def total_ns(self) -> float:
        """Return the time if what stands at one depth runs side by side, depth after depth.

        Prefills follow each other; decode steps take one row of each ask that is not done.
        """
        levels: defaultdict[int, list[Event]] = defaultdict(list)
        for event in self.events:
            if event.duration_ns:
                levels[event.depth].append(event)
        return sum(_level_ns(events) for events in levels.values())


def _level_ns(events: list[Event]) -> float:
    asks = sorted((e for e in events if e.step_ns is not None), key=lambda e: e.decode_tokens)
    time_ns = sum(ask.prefill_ns for ask in asks)
    done, left = 0, len(asks)
    for ask in asks:
        if ask.decode_tokens > done and ask.step_ns is not None:
            time_ns += (ask.decode_tokens - done) * ask.step_ns(left, ask.context)
            done = ask.decode_tokens
        left -= 1
    return max([time_ns, *(e.duration_ns for e in events if e.step_ns is None)])
