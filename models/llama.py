"""The forward pass of a Llama-family model in plain numpy: what every backend must agree with.

Float32 throughout, no pages, no batching. Knows nothing of devices or of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokenloom.models.config import ModelConfig
from tokenloom.models.errors import ModelError
from tokenloom.models.weights import Array, Weights


@dataclass(frozen=True)
class KvState:
    """The keys (rotated by absolute position) and values of a text, for each layer.

    Each array is float32[num_kv_heads, tokens, head_dim]. A state never changes: it can be
    extended several times, each time into another continuation.
    """

    keys: tuple[Array, ...]
    values: tuple[Array, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens that this state holds."""
        return self.keys[0].shape[1]

    def behind(self, first: int) -> KvState:
        """Return the tokens from `first` on alone; their keys stay as they are rotated."""
        keys, values = ([a[:, first:] for a in arrays] for arrays in (self.keys, self.values))
        return KvState(tuple(keys), tuple(values))


class LlamaReference:
    """A model with its weights in memory."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        """Read all weights; a tied output matrix is read once."""
        self.config = config
        tied = config.tie_embeddings
        names = [name for name in weights.names() if not (tied and name == "lm_head")]
        self._weights = {name: weights.get(name) for name in names}
        self._lm_head = self._weights["embed" if tied else "lm_head"]
        self._cos, self._sin = config.rope_tables(config.max_context)

    def start(self) -> KvState:
        """Return the state of no text."""
        config = self.config
        empty = np.zeros((config.num_kv_heads, 0, config.head_dim), np.float32)
        return KvState((empty,) * config.num_layers, (empty,) * config.num_layers)

    def extend(self, state: KvState, ids: Sequence[int]) -> tuple[KvState, Array]:
        """Run `ids` behind `state`: the longer state, and logits float32[len(ids), vocab_size].

        Raises ModelError for an id outside the vocabulary and a text beyond the context.
        """
        self._check(state, ids)
        if not ids:
            return state, np.zeros((0, self.config.vocab_size), np.float32)
        hidden = self._weights["embed"][np.asarray(ids, np.intp)]
        keys: list[Array] = []
        values: list[Array] = []
        for index in range(self.config.num_layers):
            attended, key, value = self._attention(index, hidden, state)
            keys.append(key)
            values.append(value)
            hidden = hidden + attended
            hidden = hidden + self._ffn(index, hidden)
        logits = self._norm(hidden, "norm") @ self._lm_head.T
        return KvState(tuple(keys), tuple(values)), logits

    def link(self, state: KvState, run: KvState, distance: int) -> KvState:
        """Put the KV of a run, which was computed `distance` tokens before, behind a state.

        Keys rotated by p become keys rotated by p + distance, as R(a)R(b) = R(a + b).
        """
        # The tables may carry a factor (YaRN's), which the keys have already.
        row, factor = abs(distance), self._cos[0, 0]
        cos, sin = self._cos[row : row + 1] / factor, self._sin[row : row + 1] / factor
        turned = [_turn(key, cos, sin if distance >= 0 else -sin) for key in run.keys]
        keys = [np.concatenate(pair, axis=1) for pair in zip(state.keys, turned, strict=True)]
        values = [
            np.concatenate(pair, axis=1) for pair in zip(state.values, run.values, strict=True)
        ]
        return KvState(tuple(keys), tuple(values))

    def _check(self, state: KvState, ids: Sequence[int]) -> None:
        if any(not 0 <= token_id < self.config.vocab_size for token_id in ids):
            raise ModelError(f"a token id is outside the vocabulary of '{self.config.name}'")
        if state.num_tokens + len(ids) > self.config.max_context:
            raise ModelError(
                f"{state.num_tokens + len(ids)} tokens exceed the context of "
                f"'{self.config.name}' ({self.config.max_context} tokens)"
            )

    def _attention(self, index: int, hidden: Array, state: KvState) -> tuple[Array, Array, Array]:
        """Return the attention output [n, hidden_size] and the layer's extended keys, values."""
        config, layer = self.config, f"layers.{index}."
        qkv = self._norm(hidden, layer + "attn_norm") @ self._weights[layer + "qkv"].T
        if config.qkv_bias:
            qkv = qkv + self._weights[layer + "qkv_bias"]
        heads = qkv.reshape(len(hidden), -1, config.head_dim).swapaxes(0, 1)
        query, key, value = np.split(
            heads, [config.num_heads, config.num_heads + config.num_kv_heads]
        )
        if config.qk_norm:
            query = self._norm(query, layer + "q_norm")
            key = self._norm(key, layer + "k_norm")
        position = state.num_tokens
        key = np.concatenate([state.keys[index], self._rotate(key, position)], axis=1)
        value = np.concatenate([state.values[index], value], axis=1)
        mixed = _attend(self._rotate(query, position), key, value)
        return mixed @ self._weights[layer + "o"].T, key, value

    def _ffn(self, index: int, hidden: Array) -> Array:
        layer = f"layers.{index}."
        rows = self._norm(hidden, layer + "ffn_norm") @ self._weights[layer + "gate_up"].T
        gate, up = np.split(rows, 2, axis=1)
        gated = np.multiply(_silu(gate), up)
        return np.matmul(gated, self._weights[layer + "down"].T)

    def _norm(self, x: Array, name: str) -> Array:
        """RMS norm over the last axis (arXiv 1910.07467)."""
        mean: Array = np.mean(np.square(x), axis=-1, keepdims=True)
        root = np.sqrt(mean + np.float32(self.config.norm_eps))
        return np.multiply(x / root, self._weights[name])

    def _rotate(self, x: Array, position: int) -> Array:
        """Rotate x[heads, n, head_dim] to the positions from `position` on."""
        cos = self._cos[position : position + x.shape[1]]
        sin = self._sin[position : position + x.shape[1]]
        return _turn(x, cos, sin)


def _turn(x: Array, cos: Array, sin: Array) -> Array:
    """Rotate the pairs of x[heads, n, head_dim] by the angles of [n or 1, head_dim / 2]."""
    left, right = np.split(x, 2, axis=-1)
    rotated = np.empty_like(x)
    rotated[..., : x.shape[-1] // 2] = left * cos - right * sin
    rotated[..., x.shape[-1] // 2 :] = right * cos + left * sin
    return rotated


def _attend(query: Array, key: Array, value: Array) -> Array:
    """Attend causally, the last query being at the last key's position: [n, heads*head_dim]."""
    num_heads, num_rows, head_dim = query.shape
    num_kv_heads, num_keys, _ = key.shape
    grouped = query.reshape(num_kv_heads, -1, num_rows, head_dim)
    scores = grouped @ key[:, None].swapaxes(-1, -2) * np.float32(head_dim**-0.5)
    first = num_keys - num_rows
    row_ends = np.arange(first, num_keys, dtype=np.intp)
    unseen = np.less.outer(row_ends, np.arange(num_keys, dtype=np.intp))
    scores[..., unseen] = -np.inf
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    mixed = (scores @ value[:, None]).reshape(num_heads, num_rows, head_dim)
    return mixed.swapaxes(0, 1).reshape(num_rows, -1)


def _silu(x: Array) -> Array:
    """Return x * sigmoid(x); the exponent is never positive, so nothing overflows."""
    small: Array = np.exp(-np.abs(x))
    one = np.float32(1)
    return np.divide(x * np.where(x >= 0, one, small), one + small)
