from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.controller.quantize import (
    Quantized,
    Role,
    dequantize,
    quantize,
    scale_shape,
)

ROLES = st.sampled_from(["keys", "values"])
TOKENS, DIMS = 16, 8
SMALLEST, LARGEST = 2.0**-24, 65504.0


def blocks() -> st.SearchStrategy[NDArray[np.float16]]:
    """Any finite FP16 numbers, each row or column of its own size: zeros, subnormals, largest."""

    def make(seed: int, exponents: tuple[int, int], zeros: float) -> NDArray[np.float16]:
        random = np.random.default_rng(seed)
        size = np.exp2(random.integers(*exponents, (2, TOKENS, 1))).astype(np.float64)
        data = random.uniform(-2, 2, (2, TOKENS, DIMS)) * size
        data[random.random(data.shape) < zeros] = 0
        return np.clip(data, -LARGEST, LARGEST).astype(np.float16)

    ranges = st.sampled_from([(-26, -12), (-24, 16), (14, 16), (-2, 2)])
    return st.builds(make, st.integers(0, 2**32), ranges, st.sampled_from([0.0, 0.5, 1.0]))


def bound(block: Quantized, shape: tuple[int, ...]) -> NDArray[Any]:
    """Half a scale for each element, exactly."""
    repeats = shape[-1] // block.scales.shape[-1]
    return np.broadcast_to(np.repeat(block.scales.astype(np.float64) / 2, repeats, -1), shape)


@settings(deadline=None, max_examples=300)
@given(blocks(), ROLES, st.sampled_from([1, 2, 8]))
@example(np.full((1, TOKENS, DIMS), LARGEST, np.float16), "values", 1)
@example(np.full((1, TOKENS, DIMS), SMALLEST, np.float16), "keys", 1)
@example(np.zeros((1, TOKENS, DIMS), np.float16), "keys", 1)
def test_the_error_is_at_most_half_the_stored_scale(
    data: NDArray[np.float16], role: Role, group: int
) -> None:
    block = quantize(data, role, group)
    back = dequantize(block)
    assert block.scales.dtype == back.dtype == np.float16
    assert block.codes.min() >= -127
    error = np.abs(data.astype(np.float64) - back.astype(np.float64))
    assert (error <= bound(block, data.shape)).all()


@settings(deadline=None)
@given(st.integers(0, 0x7BFF), st.integers(-127, 127))
def test_every_code_times_its_scale_is_an_fp16_number(bits: int, code: int) -> None:
    largest = np.array([bits], np.uint16).view(np.float16)
    scale = quantize(largest[None], "keys").scales[0, 0].astype(np.float64)
    product = code * scale
    if abs(product) <= LARGEST:
        assert np.float64(np.float16(product)) == product


@settings(deadline=None)
@given(blocks(), ROLES)
def test_a_scale_is_little_larger_than_needed(data: NDArray[np.float16], role: Role) -> None:
    block = quantize(data, role)
    axis = -2 if role == "keys" else -1
    needed = np.abs(data.astype(np.float64)).max(axis, keepdims=True) / 127
    assert (block.scales >= needed).all()
    assert (block.scales <= np.maximum(needed * 9 / 8, needed + SMALLEST)).all()


@pytest.mark.parametrize(
    ("role", "group", "shape"),
    [("keys", 1, (3, 1, 8)), ("keys", 4, (3, 1, 2)), ("values", 1, (3, 16, 1))],
)
def test_a_scale_stands_for_a_channel_group_or_a_token(
    role: Role, group: int, shape: tuple[int, ...]
) -> None:
    block = quantize(np.ones((3, TOKENS, DIMS), np.float16), role, group)
    assert block.scales.shape == shape == scale_shape((3, TOKENS, DIMS), role, group)
    assert block.size_bytes == 3 * TOKENS * DIMS + 2 * int(np.prod(shape))


def test_a_large_channel_leaves_the_others_exact() -> None:
    data = np.tile(np.arange(-8, 8, dtype=np.float16)[:, None], (1, DIMS))
    data[:, 3] *= 4096
    error = np.abs(dequantize(quantize(data, "keys")).astype(np.float64) - data)
    assert error[:, 3].max() > 1
    assert np.delete(error, 3, axis=1).max() <= 8 / 127


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_number_that_is_not_finite_is_named_with_its_place(value: float) -> None:
    data = np.zeros((2, TOKENS, DIMS), np.float16)
    data[1, 5, 7] = value
    with pytest.raises(DeviceError, match=rf"values cannot .*: {value} at token 5, dimension 7"):
        quantize(data, "values")
