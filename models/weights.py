"""The weights of a model under canonical names, whatever file they come from.

Knows nothing of file formats: a source reads tensors by name, in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from tokenloom.models.config import ModelConfig

Array = NDArray[np.float32]


class Weights:
    """Float32 arrays by canonical name, read on demand.

    A matrix is [outputs, inputs]. Query and key rows pair dimension j with j + head_dim/2 for
    rotation (as transformers does). Nothing is kept: each `get` reads and dequantizes anew, and
    the caller owns the result.

    | name | shape |
    | --- | --- |
    | `embed`, `lm_head` (equal when tied) | [vocab_size, hidden_size] |
    | `norm`, `layers.{i}.attn_norm`, `layers.{i}.ffn_norm` | [hidden_size] |
    | `layers.{i}.qkv`: query, key, value rows stacked | [qkv_size, hidden_size] |
    | `layers.{i}.qkv_bias`, with `qkv_bias` | [qkv_size] |
    | `layers.{i}.q_norm`, `layers.{i}.k_norm`, with `qk_norm` | [head_dim] |
    | `layers.{i}.o` | [hidden_size, num_heads * head_dim] |
    | `layers.{i}.gate_up`: gate rows, then up rows | [2 * ffn_size, hidden_size] |
    | `layers.{i}.down` | [hidden_size, ffn_size] |
    """

    def __init__(self, config: ModelConfig, read: Callable[[str], Array]) -> None:
        """`read` gives the tensor of one canonical name; it is asked for names() only."""
        self._shapes = weight_shapes(config)
        self._read = read

    def names(self) -> list[str]:
        """All canonical names of this model, in the order of the forward pass."""
        return list(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of `get(name)` without reading it. KeyError: unknown name."""
        return self._shapes[name]

    def get(self, name: str) -> Array:
        """Read one array. KeyError: unknown name; ModelError: damaged or missing file."""
        shape = self.shape(name)
        array = self._read(name)
        assert array.shape == shape, f"{name}: {array.shape} is not {shape}"
        return array

    def __contains__(self, name: object) -> bool:
        return name in self._shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def weight_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the canonical names that a model of this configuration has, and their shapes."""
    hidden = config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {"embed": (config.vocab_size, hidden)}
    for index in range(config.num_layers):
        layer = f"layers.{index}."
        shapes[layer + "attn_norm"] = (hidden,)
        shapes[layer + "qkv"] = (config.qkv_size, hidden)
        if config.qkv_bias:
            shapes[layer + "qkv_bias"] = (config.qkv_size,)
        if config.qk_norm:
            shapes[layer + "q_norm"] = (config.head_dim,)
            shapes[layer + "k_norm"] = (config.head_dim,)
        shapes[layer + "o"] = (hidden, config.num_heads * config.head_dim)
        shapes[layer + "ffn_norm"] = (hidden,)
        shapes[layer + "gate_up"] = (2 * config.ffn_size, hidden)
        shapes[layer + "down"] = (hidden, config.ffn_size)
    shapes["norm"] = (hidden,)
    shapes["lm_head"] = (config.vocab_size, hidden)
    return shapes
