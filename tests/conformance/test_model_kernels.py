"""Operations of a model outside of attention; `pim` leaves them to a processor."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenloom.backends.device import Buffer, Device, DeviceError
from tokenloom.kernel_spec import KernelSpec

Array = NDArray[Any]


class Case(Protocol):
    """The fixture's type, as far as these tests use it."""

    device: Device
    computes: bool
    tolerance: float

    def spec(self, op: str, dims: dict[str, int], eps: float | None = None) -> KernelSpec: ...
    def put(self, data: Array, tier: str = "dense") -> Buffer: ...


@pytest.fixture
def processor(case: Case) -> Case:
    if case.device.name == "pim":
        pytest.skip("pim runs operations on KV pages only")
    return case


def test_a_weight_is_prepared_and_counted(processor: Case) -> None:
    spec = processor.spec("linear", {"inputs": 32, "outputs": 48})
    buffer = processor.device.prepare_weight(spec, np.ones((48, 32), np.float32))
    assert (buffer.shape, buffer.dtype) == ((48, 32), "float32")
    processor.device.free(buffer)
    with pytest.raises(DeviceError, match=r"weight float32\[48, 32\], got float32\[32, 48\]"):
        processor.device.prepare_weight(spec, np.ones((32, 48), np.float32))
    with pytest.raises(DeviceError, match="no weight"):
        processor.device.prepare_weight(
            processor.spec("add", {"hidden": 16}), np.ones(16, np.float32)
        )


def test_a_layer_of_operations_equals_numpy(processor: Case, rng: np.random.Generator) -> None:
    """Results of one launch are inputs of the next, on buffers longer than the rows in use."""
    if not processor.computes:
        pytest.skip(f"{processor.device.name} computes nothing")
    device = processor.device
    embedding, norm, up, down, bias = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((20, 32), (32,), (96, 32), (32, 48), (32,))
    )
    tokens = np.array([3, 19, 0, 3, 8], np.int32)
    x, y, rows = (device.allocate((9, 32), "float32") for _ in range(3))
    wide, narrow = device.allocate((9, 96), "float32"), device.allocate((9, 48), "float32")
    specs = {
        "embed": processor.spec("embed", {"vocab": 20, "hidden": 32}),
        "rms_norm": processor.spec("rms_norm", {"hidden": 32}, eps=1e-5),
        "linear": processor.spec("linear", {"inputs": 32, "outputs": 96}),
        "silu_mul": processor.spec("silu_mul", {"ffn": 48}),
        "linear_bias": processor.spec("linear_bias", {"inputs": 48, "outputs": 32}),
        "add": processor.spec("add", {"hidden": 32}),
        "take_rows": processor.spec("take_rows", {"hidden": 32}),
    }
    weights = {
        op: device.prepare_weight(specs[op], data)
        for op, data in (
            ("embed", embedding),
            ("rms_norm", norm),
            ("linear", up),
            ("linear_bias", down),
        )
    }
    for op, arguments in (
        ("embed", [processor.put(tokens), weights["embed"], x]),
        ("rms_norm", [x, weights["rms_norm"], y]),
        ("linear", [y, weights["linear"], wide]),
        ("silu_mul", [wide, narrow]),
        ("linear_bias", [narrow, weights["linear_bias"], processor.put(bias), y]),
        ("add", [x, y]),
    ):
        device.launch(device.load(specs[op]), [*arguments, 5])
    picked = processor.put(np.array([4, 1], np.int32))
    device.launch(device.load(specs["take_rows"]), [x, picked, rows, 2])
    expected = layer(embedding[tokens], norm, up, down, bias)[[4, 1]]
    error = np.abs(device.read(rows, 0, 2) - expected).max() / np.abs(expected).max()
    assert error < processor.tolerance
    assert not device.read(x, 5).any()


def layer(x: Array, norm: Array, up: Array, down: Array, bias: Array) -> Array:
    x = x.astype(np.float64)
    normed = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-5) * norm
    gate, value = np.split(normed @ up.T, 2, axis=1)
    return x + (gate / (1 + np.exp(-gate)) * value) @ down.T + bias
