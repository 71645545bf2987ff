"""Symmetric INT8 of KV blocks, as the base die writes them while they migrate.

A block is the keys or the values of a few tokens of one head. Keys have a scale for each channel
(dimension) or group of channels, values one for each token: key channels differ in size from each
other and values from token to token. The scheme is ours. It knows nothing of tiers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.banks import Half

Role = Literal["keys", "values"]

LARGEST_CODE = 127
"""Codes lie in -127..127, so that a number and its negative have opposite codes."""
SCALE_BITS = 4
"""Significant bits of a scale. With the 7 of a code they make the 11 of an FP16 number."""
SCALE_BYTES = 2

_LEAST_EXPONENT = -24
_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Quantized:
    """Codes [..., tokens, dims] and FP16 scales that a code is multiplied with.

    Scales are [..., 1, dims / group] for keys and [..., tokens, 1] for values.
    """

    codes: NDArray[np.int8]
    scales: Half

    @property
    def size_bytes(self) -> int:
        """What codes and scales take."""
        return self.codes.nbytes + self.scales.nbytes


def quantize(data: Half, role: Role, group_dims: int = 1) -> Quantized:
    """Return `data` [..., tokens, dims] in INT8; `group_dims` neighbouring key channels share.

    |x - dequantize(quantize(x))| <= scale / 2 holds for every element and the scale as stored. A
    scale is the largest magnitude over 127, rounded up to 4 significant bits: up, so that no code
    overflows, and to 4, so that code times scale is an FP16 number and the way back does not round
    a second time, at the price of a scale at most 1/8 larger. DeviceError: a number is not finite.
    """
    _check_finite(data, role)
    largest = np.abs(data.astype(np.float64))
    if role == "keys":
        groups = (*data.shape[:-1], data.shape[-1] // group_dims, group_dims)
        largest = largest.reshape(groups).max(axis=(-3, -1))[..., None, :]
    else:
        largest = largest.max(axis=-1, keepdims=True)
    scales = _scale(largest)
    spread = _spread(scales, data.shape)
    divisor = np.where(spread == 0, 1, spread)
    codes = np.rint(data.astype(np.float64) / divisor)
    return Quantized(codes.astype(np.int8), scales.astype(np.float16))


def dequantize(block: Quantized) -> Half:
    """Return the numbers that the codes stand for; those beyond FP16 become its largest."""
    scales = _spread(block.scales.astype(np.float32), block.codes.shape)
    return np.clip(block.codes * scales, -_LARGEST, _LARGEST).astype(np.float16)


def scale_shape(shape: tuple[int, ...], role: Role, group_dims: int = 1) -> tuple[int, ...]:
    """Return the shape of the scales of data [..., tokens, dims]."""
    if role == "keys":
        return (*shape[:-2], 1, shape[-1] // group_dims)
    return (*shape[:-1], 1)


def _scale(largest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the least numbers of 4 significant bits, at least 2**-24, that are >= largest/127."""
    _, exponent = np.frexp(largest / LARGEST_CODE)
    step = np.ldexp(1.0, np.maximum(exponent - SCALE_BITS, _LEAST_EXPONENT))
    return np.ceil(largest / (LARGEST_CODE * step)) * step


def _spread(scales: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.floating]:
    """Return a scale for each element: repeated over its group, its tokens or its dimensions."""
    return np.broadcast_to(np.repeat(scales, shape[-1] // scales.shape[-1], axis=-1), shape)


def _check_finite(data: Half, role: Role) -> None:
    wrong = np.argwhere(~np.isfinite(data))
    if len(wrong):
        *_, token, dim = wrong[0]
        raise DeviceError(
            f"pim: {role} cannot be quantized: {data[tuple(wrong[0])]} at token {token},"
            f" dimension {dim}; a scale needs finite numbers"
        )
