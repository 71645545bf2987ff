"""A timed command stream as a trace that Perfetto and Chrome show.

A process for each channel, or one for all of them; in it a track for each bank group, one for
commands that open, close and refresh rows, one for data movement, one for the base die. What
overlaps on a track goes to a further one of that name. Format: Trace Event Format, times in
microseconds, on whole nanoseconds so that neighbours never overlap by rounding. It times nothing:
a command lasts what the next of its kind has to wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import ceil
from typing import Any

from tokenloom.backends.pim.errors import StreamError
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import ALL, UNIT_OPS, Command, CommandStream, Op
from tokenloom.backends.pim.streams.limits import MOVE_OPS, check_fields, place

_ROW_OPS = frozenset({Op.ACT, Op.PRE, Op.REF})
_MOVES = MOVE_OPS | {Op.RD, Op.WR}
_BASE_DIE, _MOVEMENT, _ROWS = "base die", "data movement", "rows"


def stream_trace(stream: CommandStream, stack: PimStack) -> dict[str, Any]:
    """Return the trace as data for JSON.

    StreamError: a command has no cycle, or names what the stack does not have.
    """
    check_fields(stream, stack, element_bytes=1)  # INT8 has the most lanes
    untimed = stream.records["cycle"] < 0
    if untimed.any():
        raise StreamError(f"{place(stream, int(untimed.argmax()))}: no cycle; time it first")
    pseudo_channels = bool((stream.records["pseudo_channel"] != ALL).any())
    processes: dict[int, _Process] = {}
    for command in sorted(stream, key=lambda command: command.cycle):
        if command.channel not in processes:
            processes[command.channel] = _Process(command.channel, stack.timing.cycle_ns)
        process = processes[command.channel]
        cycles = duration_cycles(command, stack)
        for track in _tracks(command, stack, pseudo_channels):
            process.span(track, command, cycles)
    events = [event for _, process in sorted(processes.items()) for event in process.events]
    about = {"stream": stream.name, "machine": stream.machine, "cycle_ns": stack.timing.cycle_ns}
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": about}


def duration_cycles(command: Command, stack: PimStack) -> int:
    """Return for how long a command occupies what it works on."""
    timing, op = stack.timing, command.op
    if op in UNIT_OPS:
        return stack.mac_interval_cycles
    if op is Op.REF:
        each = timing.rfc_bank_cycles
        return each if each and command.bank != ALL else timing.rfc_cycles
    if op is Op.SFM:
        return max(1, ceil(command.size * timing.softmax_per_token_cycles))
    if op in (Op.DMA, Op.GATHER, Op.BCAST):
        bytes_per_ns = stack.dma_bandwidth_bytes_per_s * 1e-9
        return max(1, ceil(command.size_bytes / bytes_per_ns / timing.cycle_ns))
    fixed = {
        Op.ACT: timing.rcd_read_cycles,
        Op.PRE: timing.rp_cycles,
        Op.RD: timing.bl_cycles,
        Op.WR: timing.bl_cycles,
        Op.WR_GB: timing.write_interval_cycles,
        Op.MV_GB: timing.move_interval_cycles,
        Op.MV_SB: timing.move_interval_cycles,
    }
    return fixed.get(op, 1)


def _tracks(command: Command, stack: PimStack, pseudo_channels: bool) -> Iterator[str]:
    """Yield the tracks that show a command: every bank group whose units it uses, or one other."""
    if command.op in _ROW_OPS:
        yield _ROWS
    elif command.op in _MOVES:
        yield _MOVEMENT
    elif command.op not in UNIT_OPS:
        yield _BASE_DIE
    else:
        sids = _chosen(command.sid, stack.pim_sids)
        groups = _chosen(command.bank_group, stack.bank_groups)
        channels = _chosen(command.pseudo_channel, stack.pseudo_channels if pseudo_channels else 1)
        for channel, sid, group in product(channels, sids, groups):
            name = f"SID {sid} bank group {group}"
            yield f"pseudo channel {channel} {name}" if pseudo_channels else name


def _chosen(index: int, count: int) -> range:
    return range(count) if index == ALL else range(index, index + 1)


class _Process:
    """The events of one channel. Spans come in the order of their cycles."""

    def __init__(self, channel: int, cycle_ns: float):
        self._pid = channel + 2  # ALL is -1, and 0 is not a process
        self._cycle_ns = cycle_ns
        self._num_threads = 0
        self._lanes: dict[str, list[tuple[int, int]]] = {}
        name = "all channels" if channel == ALL else f"channel {channel}"
        self.events: list[dict[str, Any]] = [
            self._meta("process_name", 0, {"name": name}),
            self._meta("process_sort_index", 0, {"sort_index": self._pid}),
        ]

    def span(self, track: str, command: Command, cycles: int) -> None:
        """Add a command to a track."""
        end = command.cycle + cycles
        start_ns, end_ns = (round(cycle * self._cycle_ns) for cycle in (command.cycle, end))
        event = {
            "ph": "X",
            "pid": self._pid,
            "tid": self._thread(track, command.cycle, end),
            "name": command.op.name,
            "ts": start_ns / 1e3,
            "dur": (end_ns - start_ns) / 1e3,
            "args": _arguments(command),
        }
        self.events.append(event)

    def _thread(self, track: str, start: int, end: int) -> int:
        lanes = self._lanes.setdefault(track, [])
        for index, (free, thread) in enumerate(lanes):
            if free <= start:
                lanes[index] = end, thread
                return thread
        self._num_threads += 1
        lanes.append((end, self._num_threads))
        name = track if len(lanes) == 1 else f"{track} #{len(lanes)}"
        self.events.append(self._meta("thread_name", self._num_threads, {"name": name}))
        return self._num_threads

    def _meta(self, kind: str, thread: int, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"ph": "M", "pid": self._pid, "tid": thread, "name": kind, "args": arguments}


def _arguments(command: Command) -> dict[str, int]:
    """Return the fields that say something; the unit fields where they select one."""
    given = {"cycle": command.cycle}
    if command.op in UNIT_OPS | {Op.ACT, Op.RD, Op.WR}:
        given |= {"row": command.row}
    if command.op in UNIT_OPS | {Op.RD, Op.WR}:
        given |= {"column": command.column}
    for field in ("pseudo_channel", "sid", "bank_group", "bank"):
        if (value := getattr(command, field)) != ALL:
            given[field] = value
    for field in ("dst", "src", "lane", "address", "size", "size_bytes"):
        if value := getattr(command, field):
            given[field] = value
    return given
