"""A Llama-family configuration out of transformers' `config.json`.

Knows nothing of the weights. Old files keep `rope_theta` and `rope_scaling` apart, new ones
(transformers 5) hold both in `rope_parameters`.
"""

from __future__ import annotations

from typing import Any, NoReturn, cast

from tokenloom.models.config import ModelConfig, RopeConfig, yarn_attention_factor
from tokenloom.models.errors import ModelError

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")

Json = dict[str, Any]


def read_config(name: str, data: Json, generation: Json) -> ModelConfig:
    """Read `config.json` and, for the tokens that end an answer, `generation_config.json`.

    Raises ModelError for a model type or a feature that is not supported, naming it.
    """
    kind = str(data.get("model_type"))
    if kind not in MODEL_TYPES:
        refuse(name, f"type '{kind}' is not supported (supported: {', '.join(MODEL_TYPES)})")
    activation = data.get("hidden_act", "silu")
    if activation != "silu":
        refuse(name, f"activation '{activation}' is not supported, only silu")
    if data.get("mlp_bias") or data.get("quantization_config"):
        refuse(name, "biases in the MLP and quantized checkpoints are not supported")
    try:
        return _read(name, kind, data, generation)
    except KeyError as error:
        refuse(name, f"config.json has no {error}")
    except TypeError as error:
        refuse(name, f"config.json is not valid: {error}")


def refuse(name: str, reason: str) -> NoReturn:
    """Raise ModelError with the model's name and `reason`."""
    raise ModelError(f"{name}: {reason}")


def _read(name: str, kind: str, data: Json, generation: Json) -> ModelConfig:
    num_heads, hidden_size = data["num_attention_heads"], data["hidden_size"]
    head_dim = data.get("head_dim") or hidden_size // num_heads
    bias = data.get("attention_bias", False)
    if bias and kind != "qwen2":
        refuse(name, "a bias in the attention output is not supported")
    return ModelConfig(
        name=name,
        vocab_size=data["vocab_size"],
        hidden_size=hidden_size,
        num_layers=data["num_hidden_layers"],
        num_heads=num_heads,
        num_kv_heads=data.get("num_key_value_heads") or num_heads,
        head_dim=head_dim,
        ffn_size=data["intermediate_size"],
        norm_eps=data["rms_norm_eps"],
        rope=_read_rope(name, data),
        max_context=_max_context(kind, data),
        tie_embeddings=data.get("tie_word_embeddings", False),
        qkv_bias=kind == "qwen2",
        qk_norm=kind == "qwen3",
        bos_id=data.get("bos_token_id"),
        eos_ids=_eos_ids(data, generation),
    )


def _max_context(kind: str, data: Json) -> int:
    """Return the context, cut to a sliding window: within it attention is full attention."""
    limit = int(data["max_position_embeddings"])
    slides = kind == "mistral" or data.get("use_sliding_window", False)
    window = data.get("sliding_window") if slides else None
    return min(limit, int(window)) if window else limit


def _read_rope(name: str, data: Json) -> RopeConfig:
    scaling: Json = {**(data.get("rope_scaling") or {}), **(data.get("rope_parameters") or {})}
    theta = float(scaling.get("rope_theta") or data.get("rope_theta") or 10000.0)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    partial = scaling.get("partial_rotary_factor", data.get("partial_rotary_factor", 1.0))
    if partial != 1.0:
        refuse(name, "rotary embedding of a part of each head is not supported")
    if kind == "default":
        return RopeConfig("plain", theta)
    factor = float(scaling["factor"])
    original = int(
        scaling.get("original_max_position_embeddings") or data["max_position_embeddings"]
    )
    if kind == "llama3":
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        return RopeConfig("llama3", theta, factor, original, float(low), float(high))
    if kind != "yarn":
        return RopeConfig(kind, theta, factor)
    if scaling.get("mscale") or scaling.get("truncate") is False:
        refuse(name, "YaRN with 'mscale' or without 'truncate' is not supported")
    return RopeConfig(
        "yarn",
        theta,
        factor,
        original,
        attention_factor=float(scaling.get("attention_factor") or yarn_attention_factor(factor)),
        beta_fast=float(scaling.get("beta_fast") or 32),
        beta_slow=float(scaling.get("beta_slow") or 1),
    )


def _eos_ids(data: Json, generation: Json) -> tuple[int, ...]:
    found = generation.get("eos_token_id", data.get("eos_token_id"))
    if found is None:
        return ()
    listed = cast("list[int]", found if isinstance(found, list) else [found])
    return tuple(int(token_id) for token_id in listed)
