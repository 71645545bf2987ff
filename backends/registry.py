"""Opens a device by name. It knows the names and nothing of what devices do."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from tokenloom.backends.device import Device, DeviceError
from tokenloom.kernel_spec import MODES, KernelSpec, Mode

DEVICES: dict[str, tuple[str, str]] = {
    "host": ("tokenloom.backends.host", "HostDevice"),
    "pim": ("tokenloom.backends.pim.device", "PimDevice"),
    "cuda": ("tokenloom.backends.cuda", "CudaDevice"),
    "null": ("tokenloom.backends.null", "NullDevice"),
}
"""Module and class by device name; a module is imported when its device is opened."""


def open_device(
    name: str, mode: Mode = "exact", on_build: Callable[[KernelSpec], None] | None = None
) -> Device:
    """Return a new device; `on_build` is told of each kernel that it has to compile first.

    DeviceError: unknown name or mode, or hardware that is not here.
    """
    if name not in DEVICES:
        raise DeviceError(f"no device {name!r}; there are {', '.join(DEVICES)}")
    if mode not in MODES:
        raise DeviceError(f"no mode {mode!r}; there are {', '.join(MODES)}")
    module, attribute = DEVICES[name]
    return cast("Device", getattr(import_module(module), attribute)(mode, on_build=on_build))
