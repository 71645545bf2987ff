"""A Llama-family configuration out of GGUF metadata (ggml-org/ggml, docs/gguf.md).

Knows nothing of the weights but their names and shapes.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from tokenloom.models.config import ModelConfig, RopeConfig, yarn_attention_factor
from tokenloom.models.errors import ModelError
from tokenloom.models.gguf_header import entry

ARCHITECTURES = ("llama", "qwen2", "qwen3")

# GGUF keeps Llama 3's scaled frequencies as a table of divisors; these are the published sets
# of (factor, low, high, original context) behind such tables: Llama 3.1 and 3.2.
_LLAMA3_SCALINGS = ((8.0, 1.0, 4.0, 8192), (32.0, 1.0, 4.0, 8192))

Shapes = dict[str, tuple[int, ...]]


def read_config(
    name: str, metadata: dict[str, Any], shapes: Shapes, rope_divisors: NDArray[np.float32] | None
) -> ModelConfig:
    """Read the configuration of model `name`.

    `shapes` are the file's tensors, `rope_divisors` its tensor "rope_freqs.weight". Raises
    ModelError for an architecture or a feature that is not supported, naming it.
    """
    found = _Metadata(name, metadata)
    if found.integer("expert_count", 0):
        found.refuse("mixture-of-experts models are not supported")
    num_heads = found.integer("attention.head_count")
    hidden_size = found.integer("embedding_length")
    head_dim = found.integer("attention.key_length", hidden_size // max(num_heads, 1))
    if found.integer("rope.dimension_count", head_dim) != head_dim:
        found.refuse("rotary embedding of a part of each head is not supported")
    max_context = found.integer("context_length")
    bos = "tokenizer.ggml.bos_token_id"
    window = found.integer("attention.sliding_window", 0)
    return ModelConfig(
        name=name,
        vocab_size=shapes.get("token_embd.weight", (0,))[0],
        hidden_size=hidden_size,
        num_layers=found.integer("block_count"),
        num_heads=num_heads,
        num_kv_heads=found.integer("attention.head_count_kv", num_heads),
        head_dim=head_dim,
        ffn_size=found.integer("feed_forward_length"),
        norm_eps=found.number("attention.layer_norm_rms_epsilon"),
        rope=_read_rope(found, head_dim, rope_divisors),
        # Within the window attention is full attention, and no further is it supported.
        max_context=min(max_context, window) if window else max_context,
        tie_embeddings="output.weight" not in shapes,
        qkv_bias="blk.0.attn_q.bias" in shapes,
        qk_norm="blk.0.attn_q_norm.weight" in shapes,
        bos_id=entry(metadata, bos, int) if bos in metadata else None,
        eos_ids=_eos_ids(metadata),
    )


class _Metadata:
    """Typed access to the metadata of one architecture."""

    def __init__(self, name: str, metadata: dict[str, Any]) -> None:
        self._name = name
        self._metadata = metadata
        self.architecture = str(metadata.get("general.architecture"))
        if self.architecture not in ARCHITECTURES:
            supported = ", ".join(ARCHITECTURES)
            self.refuse(
                f"architecture '{self.architecture}' is not supported (supported: {supported})"
            )

    def refuse(self, reason: str) -> NoReturn:
        raise ModelError(f"{self._name}: {reason}")

    def get(self, key: str, default: Any) -> Any:
        return self._metadata.get(f"{self.architecture}.{key}", default)

    def integer(self, key: str, default: int | None = None) -> int:
        value = self.get(key, default)
        if isinstance(value, int):
            return value
        self.refuse(f"'{self.architecture}.{key}' is {value!r}, not a whole number")

    def number(self, key: str, default: float | None = None) -> float:
        value = self.get(key, default)
        if isinstance(value, int | float):
            return float(value)
        self.refuse(f"'{self.architecture}.{key}' is {value!r}, not a number")


def _read_rope(found: _Metadata, head_dim: int, divisors: NDArray[np.float32] | None) -> RopeConfig:
    theta = found.number("rope.freq_base", 10000.0)
    kind = found.get("rope.scaling.type", "none")
    if divisors is not None:
        return _rope_of_divisors(found, RopeConfig("plain", theta), head_dim, divisors)
    if kind == "none":
        return RopeConfig("plain", theta)
    factor = found.number("rope.scaling.factor")
    if kind != "yarn":
        return RopeConfig(kind, theta, factor)
    return RopeConfig(
        "yarn",
        theta,
        factor,
        original_context=found.integer("rope.scaling.original_context_length"),
        attention_factor=found.number("rope.scaling.attn_factor", yarn_attention_factor(factor)),
    )


def _rope_of_divisors(
    found: _Metadata, plain: RopeConfig, head_dim: int, divisors: NDArray[np.float32]
) -> RopeConfig:
    frequencies = plain.inverse_frequencies(head_dim) / divisors
    for factor, low, high, original_context in _LLAMA3_SCALINGS:
        rope = RopeConfig("llama3", plain.theta, factor, original_context, low, high)
        if np.allclose(rope.inverse_frequencies(head_dim), frequencies, rtol=1e-5):
            return rope
    found.refuse("its table of rotary frequencies is not that of a known Llama 3 scaling")


def _eos_ids(metadata: dict[str, Any]) -> tuple[int, ...]:
    """Return the end of text and the end of turn, which may be one token or two."""
    keys = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
    return tuple(dict.fromkeys(entry(metadata, key, int) for key in keys if key in metadata))
