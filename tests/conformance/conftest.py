from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenloom.backends.device import Buffer, Device, DeviceError
from tokenloom.backends.registry import DEVICES, open_device
from tokenloom.kernel_spec import KernelSpec

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A device under test, and what the contract leaves to it."""

    device: Device
    computes: bool
    pool_tier: str
    pool_dtype: str
    tolerance: float
    """Of values against float64, relative to the largest."""

    def spec(self, op: str, dims: dict[str, int], eps: float | None = None) -> KernelSpec:
        attrs = () if eps is None else (("eps", eps),)
        return KernelSpec(op, tuple(sorted(dims.items())), attrs, device=self.device.name)

    def put(self, data: Array, tier: str = "dense") -> Buffer:
        buffer = self.device.allocate(data.shape, str(data.dtype), tier)
        self.device.wait(self.device.write(buffer, data))
        return buffer


def open_case(name: str) -> Case:
    try:
        device = open_device(name)
    except DeviceError as error:
        if name == "cuda" and "no GPU" in str(error):
            pytest.skip(str(error))
        raise
    in_banks = name == "pim"
    return Case(
        device,
        computes=name != "null",
        pool_tier="pim" if in_banks else "dense",
        pool_dtype="float16" if in_banks else "float32",
        tolerance=2e-2 if in_banks else 1e-5,
    )


@pytest.fixture(params=sorted(DEVICES))
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    opened = open_case(request.param)
    yield opened
    opened.device.close()


@pytest.fixture
def computing(case: Case) -> Case:
    """Only devices that hold and compute values."""
    if not case.computes:
        pytest.skip(f"{case.device.name} computes nothing")
    return case


@pytest.fixture
def device(case: Case) -> Device:
    return case.device


@pytest.fixture
def other() -> Callable[[str], Device]:
    """Opens a device that is not the one under test."""
    return lambda name: open_device("null" if name != "null" else "host")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)
