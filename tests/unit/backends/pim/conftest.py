from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.device import PimDevice
from tokenloom.backends.pim.stack import PimStack


@pytest.fixture
def stack() -> PimStack:
    """A stack small enough to hold in memory many times: 16 rows, 4 channels."""
    pim = load_machine("this-host-pim").pim
    assert pim is not None
    return replace(pim, channels=4, rows=16, pim_rows=16)


@pytest.fixture
def pim() -> Iterator[PimDevice]:
    device = PimDevice()
    yield device
    device.close()
