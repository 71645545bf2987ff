from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tokenloom.backends.device import Device, DeviceError, Event


def test_an_event_can_be_waited_for_twice(device: Device) -> None:
    buffer = device.allocate((2,), "float32")
    first = device.write(buffer, np.ones(2, np.float32))
    second = device.copy(buffer, buffer, [(0, 1)])
    assert first != second
    assert first.device == second.device == device.name
    for event in (second, first, second):
        device.wait(event)


def test_a_foreign_event_is_refused(device: Device, other: Callable[[str], Device]) -> None:
    foreign_device = other(device.name)
    foreign = foreign_device.write(foreign_device.allocate((1,), "int8"), np.zeros(1, np.int8))
    with pytest.raises(DeviceError, match=f"event of {foreign_device.name}"):
        device.wait(foreign)
    foreign_device.close()


def test_an_event_that_was_never_returned_is_refused(device: Device) -> None:
    with pytest.raises(DeviceError, match="never returned"):
        device.wait(Event(device.name, 1_000_000))
