"""A command stream channel by channel, and back: channels that get the same commands are one.

It knows nothing of time or rows; it keeps program order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import ALL, CommandStream

Records: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that get the same commands; `order` is each command's index in the whole stream.

    `every` where the commands go to all channels and name none.
    """

    channels: tuple[int, ...]
    records: Records
    order: NDArray[np.int64]
    every: bool = False

    def replaced(self, records: Records, order: NDArray[np.int64]) -> ChannelGroup:
        """Return the group with other commands; equal places in `order` keep their sequence."""
        return ChannelGroup(self.channels, records, order, self.every)


def split(stream: CommandStream, stack: PimStack) -> list[ChannelGroup]:
    """Return the groups of channels of a stream, each with its commands in program order."""
    records, total = stream.records, stack.stacks * stack.channels
    named = np.unique(records["channel"])
    if not len(named):
        return []
    if len(named) == 1 and named[0] == ALL:
        return [ChannelGroup(tuple(range(total)), records, np.arange(len(records)), every=True)]
    shared = named[0] == ALL
    channels = range(total) if shared else [int(channel) for channel in named]
    groups: dict[bytes, tuple[list[int], Records, NDArray[np.int64]]] = {}
    for channel in channels:
        order = np.flatnonzero((records["channel"] == channel) | (records["channel"] == ALL))
        mine = records[order]
        mine["channel"] = 0
        members = groups.setdefault(mine.tobytes(), ([], mine, order))
        members[0].append(channel)
    return [ChannelGroup(tuple(members), mine, order) for members, mine, order in groups.values()]


def join(name: str, machine: str, groups: Sequence[ChannelGroup]) -> CommandStream:
    """Return the stream of all groups: in program order, channels of a group side by side."""
    if len(groups) == 1 and groups[0].every:
        return CommandStream(name, machine, groups[0].records)
    parts = [_spread(group) for group in groups]
    if not parts:
        return CommandStream.of(name, machine, [])
    records = np.concatenate([records for records, _, _ in parts])
    order = np.concatenate([order for _, order, _ in parts])
    within = np.concatenate([within for _, _, within in parts])
    return CommandStream(name, machine, records[np.lexsort((within, order))])


def _spread(group: ChannelGroup) -> tuple[Records, NDArray[np.int64], NDArray[np.int64]]:
    """Return the group's commands once for each channel, their order, and a second order."""
    copies, length = len(group.channels), len(group.records)
    records = np.tile(group.records, copies)
    records["channel"] = np.repeat(np.array(group.channels, np.int32), length)
    within = np.repeat(np.array(group.channels, np.int64) * length, length)
    return records, np.tile(group.order, copies), within + np.tile(np.arange(length), copies)
