"""Opens a device by name. It knows the names and nothing of what devices do."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from tokenloom.backends.device import Device, DeviceError
from tokenloom.kernel_spec import MODES, Mode

DEVICES: dict[str, tuple[str, str]] = {
    "host": ("tokenloom.backends.host", "HostDevice"),
    "pim": ("tokenloom.backends.pim.device", "PimDevice"),
    "cuda": ("tokenloom.backends.cuda", "CudaDevice"),
    "null": ("tokenloom.backends.null", "NullDevice"),
}
"""Module and class by device name; a module is imported when its device is opened."""


def open_device(name: str, mode: Mode = "exact") -> Device:
    """Return a new device. DeviceError: unknown name or mode, or hardware that is not here."""
    if name not in DEVICES:
        raise DeviceError(f"no device {name!r}; there are {', '.join(DEVICES)}")
    if mode not in MODES:
        raise DeviceError(f"no mode {mode!r}; there are {', '.join(MODES)}")
    module, attribute = DEVICES[name]
    return cast("Device", getattr(import_module(module), attribute)(mode))
