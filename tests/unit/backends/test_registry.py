from __future__ import annotations

from typing import cast

import pytest

from tokenloom.backends.device import DeviceError
from tokenloom.backends.registry import open_device
from tokenloom.kernel_spec import Mode


def test_a_device_is_opened_by_name() -> None:
    device = open_device("null", "fast")
    assert device.name == "null"
    device.close()


def test_unknown_names_and_modes_are_refused_with_the_known_ones() -> None:
    with pytest.raises(DeviceError, match="no device 'tpu'; there are host, pim, cuda, null"):
        open_device("tpu")
    with pytest.raises(DeviceError, match="no mode 'rough'; there are exact, fast"):
        open_device("null", cast("Mode", "rough"))
