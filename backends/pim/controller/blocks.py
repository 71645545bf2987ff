"""Keys and values of KV blocks in one format, as numbers and as the bytes that a tier holds.

It knows nothing of tiers and places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.pim.banks import Half
from tokenloom.backends.pim.controller.kv_shape import Format, KvShape
from tokenloom.backends.pim.controller.quantize import Quantized, dequantize, quantize, scale_shape

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Blocks:
    """Keys and values of n blocks, [n, 16, dims] each: both FP16, or both `Quantized`."""

    keys: Half | Quantized
    values: Half | Quantized

    @classmethod
    def of_bytes(cls, codes: Bytes, scales: Bytes | None, shape: KvShape) -> Blocks:
        """Take what `codes` and `scales` return: INT8 where there are scales, FP16 where none.

        The bytes of a token may be followed by padding.
        """
        if scales is None:
            keys, values = codes.view(np.float16)[..., : shape.head_dim].swapaxes(0, 1)
            return cls(keys, values)
        keys, values = codes.view(np.int8)[..., : shape.head_dim].swapaxes(0, 1)
        key_shape = scale_shape(keys.shape, "keys", shape.group_dims)
        value_shape = scale_shape(values.shape, "values")
        split, numbers = key_shape[-1], scales.view(np.float16)
        return cls(
            Quantized(keys, numbers[:, :split].reshape(key_shape)),
            Quantized(values, numbers[:, split:].reshape(value_shape)),
        )

    def to(self, form: Format, shape: KvShape) -> Blocks:
        """Return the blocks in a format; what is in it already is left as it is."""
        keys, values = self.keys, self.values
        if form == "fp16":
            return Blocks(*self.numbers())
        if isinstance(keys, Quantized) or isinstance(values, Quantized):
            return self
        return Blocks(quantize(keys, "keys", shape.group_dims), quantize(values, "values"))

    def numbers(self) -> tuple[Half, Half]:
        """Return keys and values as FP16 numbers."""
        keys, values = self.keys, self.values
        return (
            dequantize(keys) if isinstance(keys, Quantized) else keys,
            dequantize(values) if isinstance(values, Quantized) else values,
        )

    def codes(self) -> Bytes:
        """Return [n, 2, 16, bytes]: keys and values without scales."""
        parts = [x.codes if isinstance(x, Quantized) else x for x in (self.keys, self.values)]
        return np.ascontiguousarray(np.stack(parts, 1)).view(np.uint8)

    def scales(self) -> Bytes | None:
        """Return [n, bytes]: the scales of keys, then those of values; None of FP16."""
        parts = [x.scales for x in (self.keys, self.values) if isinstance(x, Quantized)]
        if not parts:
            return None
        rows = [part.reshape(len(part), -1) for part in parts]
        return np.concatenate(rows, 1).view(np.uint8)
