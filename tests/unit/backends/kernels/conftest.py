from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenloom.backends.device import Buffer
from tokenloom.backends.host import HostDevice
from tokenloom.backends.kernel_ops import OPS
from tokenloom.kernel_spec import KernelSpec

Array = NDArray[Any]


@pytest.fixture(scope="module")
def host() -> Iterator[HostDevice]:
    device = HostDevice("exact", {"dense": 1 << 30})
    yield device
    device.close()


@pytest.fixture
def put(host: HostDevice) -> Iterator[Callable[[Array], Buffer]]:
    """Puts an array into a new buffer."""
    made: list[Buffer] = []

    def put_array(data: Array) -> Buffer:
        buffer = host.allocate(data.shape, str(data.dtype))
        host.write(buffer, data)
        made.append(buffer)
        return buffer

    yield put_array
    for buffer in made:
        host.free(buffer)


@pytest.fixture
def run_op(host: HostDevice, put: Callable[[Array], Buffer]) -> Callable[..., Array]:
    """Runs an operation on arrays; returns what it wrote: `out`, or the inout arguments."""

    def run(spec: KernelSpec, *arguments: Array | Buffer | int) -> Array:
        schema = OPS[spec.op]
        passed: list[Buffer | int] = []
        for argument, value in zip(schema.arguments, arguments, strict=True):
            if isinstance(value, np.ndarray):
                is_weight = argument.kind == "weight"
                passed.append(host.prepare_weight(spec, value) if is_weight else put(value))
            else:
                passed.append(value)
        host.wait(host.launch(host.load(spec), passed))
        written = [
            buffer
            for argument, buffer in zip(schema.arguments, passed, strict=True)
            if argument.kind in ("output", "inout")
        ]
        assert isinstance(written[0], Buffer)
        return host.read(written[0])

    return run


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
