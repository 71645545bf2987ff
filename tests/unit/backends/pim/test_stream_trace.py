from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest

from tokenloom.backends.pim.errors import StreamError
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import ON, Command, CommandStream, Op
from tokenloom.backends.pim.streams.trace import stream_trace

COMMANDS = [
    Command(Op.MODE, cycle=0, flags=ON),
    Command(Op.WR_GB, cycle=1, src=2, size_bytes=512),
    Command(Op.ACT, channel=0, row=3, cycle=1),
    Command(Op.MAC_TREE, channel=0, row=3, column=7, cycle=30, size_bytes=2048),
    Command(Op.MAC_TREE, channel=0, sid=1, bank_group=2, row=3, column=8, cycle=36),
    Command(Op.SFM, channel=0, size=5, cycle=40),
    Command(Op.PRE, channel=0, cycle=60),
    Command(Op.PRE, channel=0, bank=1, cycle=62),
]


def events(stack: PimStack, commands: list[Command]) -> list[dict[str, Any]]:
    stream = CommandStream.of("test", "test", commands)
    data = json.loads(json.dumps(stream_trace(stream, stack)))
    return data["traceEvents"]


def tracks(found: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The spans by the names of their process and track."""
    names = {
        (event["name"], event["pid"], event["tid"]): event["args"].get("name")
        for event in found
        if event["ph"] == "M"
    }
    spans: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for event in found:
        if event["ph"] == "X":
            process = names["process_name", event["pid"], 0]
            spans[process, names["thread_name", event["pid"], event["tid"]]].append(event)
    return spans


def test_every_command_is_on_the_track_of_what_it_uses(stack: PimStack) -> None:
    spans = tracks(events(stack, COMMANDS))
    names = {track: [span["name"] for span in found] for track, found in spans.items()}
    groups = {("channel 0", f"SID {s} bank group {g}") for s in range(2) for g in range(4)}
    assert names.pop(("channel 0", "SID 1 bank group 2")) == ["MAC_TREE", "MAC_TREE"]
    for group in groups - {("channel 0", "SID 1 bank group 2")}:
        assert names.pop(group) == ["MAC_TREE"]
    assert names == {
        ("all channels", "base die"): ["MODE"],
        ("all channels", "data movement"): ["WR_GB"],
        ("channel 0", "rows"): ["ACT", "PRE"],
        ("channel 0", "rows #2"): ["PRE"],
        ("channel 0", "base die"): ["SFM"],
    }


def test_a_span_says_when_how_long_and_what(stack: PimStack) -> None:
    spans = tracks(events(stack, COMMANDS))
    first = spans["channel 0", "SID 0 bank group 0"][0]
    cycle_ns = stack.timing.cycle_ns
    assert first["ts"] == pytest.approx(30 * cycle_ns / 1e3, abs=0.0006)
    assert first["dur"] == pytest.approx(stack.mac_interval_cycles * cycle_ns / 1e3, abs=0.0011)
    assert first["args"] == {"cycle": 30, "row": 3, "column": 7, "size_bytes": 2048}


def test_nothing_overlaps_on_a_track(stack: PimStack) -> None:
    interval = stack.mac_interval_cycles
    macs = [Command(Op.MAC, cycle=30 + interval * i, column=i % 32) for i in range(500)]
    rows = [Command(Op.ACT, bank=i % 4, cycle=7 * i) for i in range(40)]
    spans = tracks(events(stack, macs + rows))
    assert sum(len(found) for found in spans.values()) == 500 * 8 + 40
    for found in spans.values():
        ends = [round(1e3 * (span["ts"] + span["dur"])) for span in found]
        starts = [round(1e3 * span["ts"]) for span in found]
        assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))


def test_pseudo_channels_have_tracks_where_commands_name_them(stack: PimStack) -> None:
    command = Command(Op.MAC, pseudo_channel=1, sid=0, bank_group=3, cycle=0)
    assert list(tracks(events(stack, [command]))) == [
        ("all channels", "pseudo channel 1 SID 0 bank group 3")
    ]


def test_refresh_of_one_bank_is_shorter_where_the_stack_can(stack: PimStack) -> None:
    timing = replace(stack.timing, rfc_cycles=800, rfc_bank_cycles=560, cycle_ns=1.0)
    commands = [Command(Op.REF, cycle=0), Command(Op.REF, bank=2, cycle=900)]
    found = tracks(events(replace(stack, timing=timing), commands))
    assert [span["dur"] for span in found["all channels", "rows"]] == [0.8, 0.56]


def test_a_stream_without_cycles_is_refused(stack: PimStack) -> None:
    commands = [Command(Op.RD, cycle=3), Command(Op.WR)]
    with pytest.raises(StreamError, match=r"^test: command 1 \(WR\): no cycle; time it first$"):
        events(stack, commands)
