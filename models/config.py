"""The shape of a Llama-family model: plain numbers, and what follows from them.

Knows nothing of files, weights or devices.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tokenloom.models.errors import ModelError

RopeKind = Literal["plain", "linear", "llama3", "yarn"]


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding with frequencies that do not depend on the length of the text.

    Only such a kind allows a KV segment to keep its position frame wherever it is placed, so
    the others ("dynamic", "longrope") raise ModelError. `theta` is the base. `factor` and
    `original_context` (tokens) belong to every scaled kind, `low_freq_factor` and
    `high_freq_factor` to "llama3", `beta_fast`, `beta_slow` (rotations) and `attention_factor`
    (multiplies cos and sin) to "yarn".
    """

    kind: RopeKind
    theta: float
    factor: float = 1.0
    original_context: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    attention_factor: float = 1.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(RopeKind):
            kinds = ", ".join(get_args(RopeKind))
            raise ModelError(
                f"rotary embedding of kind '{self.kind}' is not supported: its frequencies depend "
                f"on the length of the text, or it is unknown (supported: {kinds})"
            )
        if self.kind in ("llama3", "yarn") and self.original_context <= 0:
            raise ModelError(f"rotary embedding of kind '{self.kind}' needs its original context")

    def inverse_frequencies(self, head_dim: int) -> NDArray[np.float64]:
        """Radians a token for each of the head_dim/2 rotated pairs: float64[head_dim/2]."""
        plain = self.theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
        if self.kind == "plain":
            return plain
        if self.kind == "linear":
            return plain / self.factor
        if self.kind == "llama3":
            return self._llama3(plain)
        return self._yarn(plain, head_dim)

    def _llama3(self, plain: NDArray[np.float64]) -> NDArray[np.float64]:
        """Llama 3.1: long waves slowed by `factor`, short ones kept, a ramp between.

        Source: `apply_scaling` in meta-llama/llama-models, models/llama3/model.py.
        """
        rotations = self.original_context * plain / (2 * math.pi)
        span = self.high_freq_factor - self.low_freq_factor
        kept = np.clip((rotations - self.low_freq_factor) / span, 0.0, 1.0)
        return plain * (kept + (1 - kept) / self.factor)

    def _yarn(self, plain: NDArray[np.float64], head_dim: int) -> NDArray[np.float64]:
        """YaRN's NTK-by-parts ramp over the pair index (arXiv 2309.00071, section 3.2)."""

        def pair_of(rotations: float) -> float:
            waves = self.original_context / (rotations * 2 * math.pi)
            return head_dim * math.log(waves) / (2 * math.log(self.theta))

        low = max(math.floor(pair_of(self.beta_fast)), 0)
        high = min(math.ceil(pair_of(self.beta_slow)), head_dim - 1)
        # 0.001 as in the authors' code: a ramp of no width would divide by zero.
        width = high - low if high != low else 0.001
        slowed = np.clip((np.arange(head_dim // 2) - low) / width, 0.0, 1.0)
        return plain * ((1 - slowed) + slowed / self.factor)


def yarn_attention_factor(factor: float) -> float:
    """Return the factor on cos and sin: 0.1 ln(factor) + 1 (arXiv 2309.00071, eq. 15)."""
    return 1.0 if factor <= 1 else 0.1 * math.log(factor) + 1.0


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a decoder-only Llama-family model; sizes in elements, `max_context` in tokens.

    `head_dim` need not be hidden_size / num_heads. `eos_ids` end an answer. `plain_ffn_size`: the
    width of the published MLP where that has two matrices and `ffn_size` is a gated stand-in of
    equal size, else 0. Raises ModelError when the sizes contradict each other.
    """

    name: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_size: int
    norm_eps: float
    rope: RopeConfig
    max_context: int
    tie_embeddings: bool
    qkv_bias: bool = False
    qk_norm: bool = False
    plain_ffn_size: int = 0
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for size in ("vocab_size", "hidden_size", "num_layers", "num_heads", "num_kv_heads",
                     "head_dim", "ffn_size", "max_context"):  # fmt: skip
            if getattr(self, size) <= 0:
                raise ModelError(f"model '{self.name}': {size} is {getattr(self, size)}")
        if self.num_heads % self.num_kv_heads:
            raise ModelError(
                f"model '{self.name}': {self.num_heads} heads cannot share "
                f"{self.num_kv_heads} key-value heads evenly"
            )
        if self.head_dim % 2:
            raise ModelError(f"model '{self.name}': rotary embedding needs an even head_dim")

    @property
    def qkv_size(self) -> int:
        """Rows of the stacked query, key and value projection."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim

    def kv_bytes_per_token(self, dtype_bytes: int) -> int:
        """Bytes of keys and values that one token holds over all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * dtype_bytes

    def num_parameters(self) -> int:
        """Parameters as published: a tied output matrix is counted once."""
        attention = self.qkv_size * self.hidden_size
        attention += self.num_heads * self.head_dim * self.hidden_size
        attention += self.qkv_size if self.qkv_bias else 0
        attention += 2 * self.head_dim if self.qk_norm else 0
        layer = attention + 3 * self.hidden_size * self.ffn_size + 2 * self.hidden_size
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_embeddings else 2)
        return self.num_layers * layer + embeddings + self.hidden_size

    def rope_tables(self, max_positions: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(cos, sin), each float32[max_positions, head_dim/2], computed in float64."""
        frequencies = self.rope.inverse_frequencies(self.head_dim)
        angles = np.outer(np.arange(max_positions, dtype=np.float64), frequencies)
        factor = self.rope.attention_factor
        cos, sin = np.cos(angles) * factor, np.sin(angles) * factor
        return cos.astype(np.float32), sin.astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, the rope configuration nested; `from_json` reads it back."""
        return {**asdict(self), "eos_ids": list(self.eos_ids)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> ModelConfig:
        """Read what `to_json` wrote. Raises ModelError for a missing or unknown key."""
        try:
            rope = RopeConfig(**data["rope"])
            eos_ids = tuple(data.get("eos_ids", ()))
            fields: dict[str, Any] = {**data, "rope": rope, "eos_ids": eos_ids}
            return ModelConfig(**fields)
        except (KeyError, TypeError) as error:
            name = data.get("name", "?")
            raise ModelError(f"the configuration of '{name}' is not valid: {error}") from error
