"""What can be wrong with a command stream."""

from __future__ import annotations

from tokenloom.backends.device import DeviceError


class StreamError(DeviceError):
    """A command stream cannot be read, executed or timed: which command, why, what to do."""
