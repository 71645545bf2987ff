from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tokenloom.backends.device import Device, DeviceError


def test_a_new_buffer_has_its_shape_dtype_and_size_and_is_zero(device: Device) -> None:
    buffer = device.allocate((5, 3), "float32")
    assert (buffer.device, buffer.shape, buffer.dtype) == (device.name, (5, 3), "float32")
    assert buffer.size_bytes == 60
    read = device.read(buffer)
    assert (read.shape, read.dtype) == ((5, 3), np.float32)
    assert not read.any()


def test_every_tier_of_the_capacity_holds_buffers(device: Device) -> None:
    capacity = device.capacity()
    assert capacity.lanes >= 1
    assert "dense" in capacity.size_bytes
    for tier in capacity.size_bytes:
        assert device.allocate((2, 2), "int32", tier).tier == tier


def test_an_unknown_tier_names_the_known_ones(device: Device) -> None:
    with pytest.raises(DeviceError, match=rf"{device.name}: no tier 'tape'.*dense"):
        device.allocate((1,), "float32", "tape")


def test_a_bad_shape_or_dtype_is_refused(device: Device) -> None:
    for shape in ((), (-1, 2)):
        with pytest.raises(DeviceError, match="no shape"):
            device.allocate(shape, "float32")
    with pytest.raises(DeviceError, match="unknown dtype 'float7'"):
        device.allocate((1,), "float7")


def test_over_allocation_says_bytes_asked_and_free_and_takes_nothing(device: Device) -> None:
    size = device.capacity().size_bytes["dense"]
    asked = size + 4096
    with pytest.raises(DeviceError, match=f"{asked:,} bytes asked.*{size:,} bytes free"):
        device.allocate((asked,), "uint8")
    device.allocate((4096,), "uint8")


def test_freed_memory_can_be_had_again(device: Device) -> None:
    size = device.capacity().size_bytes["dense"] * 3 // 5
    for _ in range(3):
        device.free(device.allocate((size,), "uint8"))


def test_a_freed_buffer_cannot_be_used_or_freed(device: Device) -> None:
    buffer, kept = (device.allocate((2, 2), "float32") for _ in range(2))
    device.free(buffer)
    data = np.zeros((2, 2), np.float32)
    uses: list[Callable[[], object]] = [
        lambda: device.free(buffer),
        lambda: device.read(buffer),
        lambda: device.write(buffer, data),
        lambda: device.copy(buffer, kept, [(0, 0)]),
        lambda: device.copy(kept, buffer, [(0, 0)]),
    ]
    for use in uses:
        with pytest.raises(DeviceError, match="freed already"):
            use()


def test_a_buffer_of_another_device_is_refused(
    device: Device, other: Callable[[str], Device]
) -> None:
    foreign_device = other(device.name)
    foreign = foreign_device.allocate((2, 2), "float32")
    with pytest.raises(DeviceError, match=f"belongs to device {foreign_device.name}"):
        device.read(foreign)
    foreign_device.close()


def test_ranges_shapes_and_dtypes_are_checked(device: Device) -> None:
    buffer = device.allocate((4, 2), "float32")
    with pytest.raises(DeviceError, match="rows 3:5 of a buffer with 4 rows"):
        device.write(buffer, np.zeros((2, 2), np.float32), start=3)
    with pytest.raises(DeviceError, match="rows -1:4"):
        device.read(buffer, -1)
    with pytest.raises(DeviceError, match="rows 3:2"):
        device.read(buffer, 3, 2)
    for data in (np.zeros((2, 3), np.float32), np.zeros((2, 2), np.float64)):
        with pytest.raises(DeviceError, match="written to a buffer of rows"):
            device.write(buffer, data)
    with pytest.raises(DeviceError, match="got a scalar"):
        device.write(buffer, np.array(1, np.float32))


def test_copies_are_checked(device: Device) -> None:
    source, target = device.allocate((3, 2), "float32"), device.allocate((5, 2), "float32")
    with pytest.raises(DeviceError, match="row 3 of 3"):
        device.copy(source, target, [(0, 0), (3, 1)])
    with pytest.raises(DeviceError, match="row 5 of 5"):
        device.copy(source, target, [(0, 5)])
    for shape, dtype in (((3, 3), "float32"), ((3, 2), "int32")):
        with pytest.raises(DeviceError, match="cannot copy rows"):
            device.copy(source, device.allocate(shape, dtype), [(0, 0)])


def test_closing_twice_is_fine_and_what_comes_after_is_refused(device: Device) -> None:
    buffer = device.allocate((2,), "float32")
    device.close()
    device.close()
    for use in (lambda: device.allocate((2,), "float32"), lambda: device.read(buffer)):
        with pytest.raises(DeviceError, match="is closed"):
            use()
