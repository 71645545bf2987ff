"""Which tensors of a GGUF or safetensors file make up each canonical weight.

Knows nothing of how a tensor is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenloom.models.config import ModelConfig
from tokenloom.models.errors import ModelError
from tokenloom.models.tensor_file import TensorFile
from tokenloom.models.weights import Array, Weights


@dataclass(frozen=True)
class Naming:
    """One file format's names. `layer` has a place for the index; a weight may be stacked."""

    layer: str
    parts: dict[str, tuple[str, ...]]
    ignored: tuple[str, ...] = ()

    def tensors(self, canonical: str, config: ModelConfig) -> tuple[str, ...]:
        """Return the tensors whose rows, stacked, are the weight `canonical`."""
        if canonical == "lm_head" and config.tie_embeddings:
            canonical = "embed"
        if not canonical.startswith("layers."):
            return self.parts[canonical]
        _, index, part = canonical.split(".")
        return tuple(self.layer.format(index) + name for name in self.parts[part])


GGUF = Naming(
    layer="blk.{}.",
    parts={
        "embed": ("token_embd.weight",),
        "norm": ("output_norm.weight",),
        "lm_head": ("output.weight",),
        "attn_norm": ("attn_norm.weight",),
        "qkv": ("attn_q.weight", "attn_k.weight", "attn_v.weight"),
        "qkv_bias": ("attn_q.bias", "attn_k.bias", "attn_v.bias"),
        "q_norm": ("attn_q_norm.weight",),
        "k_norm": ("attn_k_norm.weight",),
        "o": ("attn_output.weight",),
        "ffn_norm": ("ffn_norm.weight",),
        "gate_up": ("ffn_gate.weight", "ffn_up.weight"),
        "down": ("ffn_down.weight",),
    },
    ignored=("rope_freqs.weight",),  # read into the configuration
)

TRANSFORMERS = Naming(
    layer="model.layers.{}.",
    parts={
        "embed": ("model.embed_tokens.weight",),
        "norm": ("model.norm.weight",),
        "lm_head": ("lm_head.weight",),
        "attn_norm": ("input_layernorm.weight",),
        "qkv": ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
        "qkv_bias": ("self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"),
        "q_norm": ("self_attn.q_norm.weight",),
        "k_norm": ("self_attn.k_norm.weight",),
        "o": ("self_attn.o_proj.weight",),
        "ffn_norm": ("post_attention_layernorm.weight",),
        "gate_up": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
        "down": ("mlp.down_proj.weight",),
    },
    ignored=("lm_head.weight", "rotary_emb.inv_freq"),  # a tied copy; a derived table
)


def open_weights(
    config: ModelConfig, naming: Naming, files: list[TensorFile], *, interleaved: bool = False
) -> Weights:
    """Open the weights that lie in `files`.

    `interleaved`: the query and key rows pair dimension 2j with 2j + 1 for rotation, as GGUF's
    "llama" files do, and are put into canonical order. Raises ModelError for a tensor that is
    missing, of the wrong shape, or that the configuration has no use for.
    """
    owners = {name: file for file in files for name in file.shapes()}
    if config.num_layers > len(owners):
        raise ModelError(f"the weights have no tensors for {config.num_layers} layers")
    weights = Weights(config, lambda name: read(name))
    used = {name: naming.tensors(name, config) for name in weights.names()}
    _check(weights, used, naming, owners)

    def read(canonical: str) -> Array:
        out = np.empty(weights.shape(canonical), np.float32)
        start = 0
        for index, name in enumerate(used[canonical]):
            num_rows = owners[name].shapes()[name][0]
            rotated = interleaved and "qkv" in canonical and index < 2
            rows = _half_split_rows(num_rows, config.head_dim) if rotated else None
            owners[name].read_into(name, out[start : start + num_rows], rows)
            start += num_rows
        return out

    return weights


def _check(
    weights: Weights,
    used: dict[str, tuple[str, ...]],
    naming: Naming,
    owners: dict[str, TensorFile],
) -> None:
    for canonical, names in used.items():
        missing = [name for name in names if name not in owners]
        if missing:
            raise ModelError(f"the weights have no tensor '{missing[0]}'")
        shapes = [owners[name].shapes()[name] for name in names]
        stacked = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        if stacked != weights.shape(canonical) or len({shape[1:] for shape in shapes}) > 1:
            found = ", ".join(f"'{n}' {list(s)}" for n, s in zip(names, shapes, strict=True))
            raise ModelError(f"{found} do not make up {canonical} {list(weights.shape(canonical))}")
    known = {name for names in used.values() for name in names}
    for name in owners:
        if name not in known and not name.endswith(naming.ignored):
            raise ModelError(
                f"tensor '{name}' has no place in a Llama-family model: this architecture "
                "is not supported"
            )


def _half_split_rows(num_rows: int, head_dim: int) -> NDArray[np.intp]:
    """Return the interleaved row that each half-split row comes from, head by head."""
    rows = np.arange(num_rows).reshape(-1, head_dim // 2, 2)
    return rows.swapaxes(1, 2).reshape(-1)
