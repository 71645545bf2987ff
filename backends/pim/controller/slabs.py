"""Hands out places of a few sizes in frames of one size: rows of banks, or pieces of dense memory.

A frame that is in use holds items of one size only, side by side, so that items of different sizes
never leave holes between each other. It knows nothing of what lies there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class _Frame:
    """A frame in use: the size of its items, and the offsets not taken."""

    size: int
    free: list[int]


class SlabPool:
    """`num_frames` frames of `frame_size` units."""

    def __init__(self, num_frames: int, frame_size: int):
        self.num_frames = num_frames
        self.frame_size = frame_size
        self._used: dict[int, _Frame] = {}
        self._partial: dict[int, dict[int, None]] = {}
        self._returned: dict[int, None] = {}
        self._fresh = 0

    def allocate(self, size: int) -> tuple[int, int] | None:
        """Return the frame and offset of a place of `size` units; None if there is none."""
        frame = next(iter(self._partial.get(size, ())), None)
        if frame is None:
            frame = self._any_frame()
            if frame is None or size > self.frame_size:
                return None
            self._open(frame, size)
        return frame, self._take(frame, size)

    def allocate_frame(self, frame: int) -> bool:
        """Take this frame whole; False if there is no such frame or it is in use."""
        if not 0 <= frame < self.num_frames or frame in self._used:
            return False
        self._open(frame, self.frame_size)
        self._take(frame, self.frame_size)
        return True

    def free(self, frame: int, offset: int) -> None:
        """Give a place back. KeyError, ValueError: it is not taken."""
        state = self._used[frame]
        if offset % state.size or offset in state.free:
            raise ValueError(f"nothing is taken at {offset} of frame {frame}")
        state.free.append(offset)
        if len(state.free) == self.frame_size // state.size:
            del self._used[frame]
            self._partial.get(state.size, {}).pop(frame, None)
            self._returned[frame] = None
        else:
            self._partial.setdefault(state.size, {})[frame] = None

    def room(self, size: int) -> int:
        """Return how many places of `size` units can still be had."""
        partial = sum(len(self._used[frame].free) for frame in self._partial.get(size, ()))
        return (self.num_frames - len(self._used)) * (self.frame_size // size) + partial

    def _any_frame(self) -> int | None:
        if self._returned:
            return next(reversed(self._returned))
        while self._fresh in self._used:
            self._fresh += 1
        return self._fresh if self._fresh < self.num_frames else None

    def _open(self, frame: int, size: int) -> None:
        self._returned.pop(frame, None)
        offsets = range(0, self.frame_size - size + 1, size)
        self._used[frame] = _Frame(size, list(reversed(offsets)))
        self._partial.setdefault(size, {})[frame] = None

    def _take(self, frame: int, size: int) -> int:
        state = self._used[frame]
        offset = state.free.pop()
        if not state.free:
            del self._partial[size][frame]
        return offset
