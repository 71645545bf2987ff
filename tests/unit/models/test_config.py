from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from tokenloom.models.config import ModelConfig, RopeConfig, yarn_attention_factor
from tokenloom.models.errors import ModelError
from tokenloom.models.registry import Model

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("rope", "parameters"),
    [
        (
            RopeConfig("linear", 1e4, factor=4.0),
            {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
        ),
        (
            RopeConfig("llama3", 5e5, factor=8.0, original_context=8192),
            {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "original_max_position_embeddings": 8192,
                **LLAMA3,
            },
        ),
        (
            RopeConfig("llama3", 1e4, 32.0, 512, low_freq_factor=2.0, high_freq_factor=9.0),
            {
                "rope_type": "llama3",
                "rope_theta": 1e4,
                "original_max_position_embeddings": 512,
                "factor": 32.0,
                "low_freq_factor": 2.0,
                "high_freq_factor": 9.0,
            },
        ),
        (
            RopeConfig("yarn", 1e6, 4.0, 32768, attention_factor=yarn_attention_factor(4.0)),
            {
                "rope_type": "yarn",
                "rope_theta": 1e6,
                "factor": 4.0,
                "original_max_position_embeddings": 32768,
            },
        ),
    ],
)
def test_frequencies_equal_those_of_transformers(
    rope: RopeConfig, parameters: dict[str, Any]
) -> None:
    config = LlamaConfig(
        hidden_size=256, num_attention_heads=2, head_dim=128, rope_parameters=parameters
    )
    expected, factor = ROPE_INIT_FUNCTIONS[rope.kind](config, torch.device("cpu"))
    np.testing.assert_allclose(rope.inverse_frequencies(128), expected.numpy(), rtol=2e-6)
    assert rope.attention_factor == pytest.approx(factor)


def test_plain_frequencies_are_powers_of_the_base() -> None:
    frequencies = RopeConfig("plain", 10000.0).inverse_frequencies(4)
    np.testing.assert_allclose(frequencies, [1.0, 0.01])


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_length_dependent_kinds_are_refused_by_name(kind: Any) -> None:
    with pytest.raises(ModelError, match=f"'{kind}' is not supported"):
        RopeConfig(kind, 1e4)


def test_tables_hold_cosine_and_sine_of_position_times_frequency(tiny: Model) -> None:
    config = replace(tiny.config, rope=RopeConfig("plain", 100.0, attention_factor=2.0), head_dim=4)
    cos, sin = config.rope_tables(3)
    assert cos.dtype == sin.dtype == np.float32
    np.testing.assert_allclose(cos[2], 2 * np.cos([2.0, 0.2]), rtol=1e-7)
    np.testing.assert_allclose(sin[2], 2 * np.sin([2.0, 0.2]), rtol=1e-7)


def test_json_round_trip(tiny: Model) -> None:
    config = replace(tiny.config, eos_ids=(7, 8), rope=RopeConfig("yarn", 1e4, 4.0, 128))
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("change", [{"hidden": 1}, {"rope": {"kind": "plain"}}])
def test_json_with_wrong_keys_is_refused(tiny: Model, change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="configuration of 'tiny' is not valid"):
        ModelConfig.from_json({**tiny.config.to_json(), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_kv_heads": 3}, "cannot share 3 key-value heads"),
        ({"head_dim": 15}, "even head_dim"),
        ({"num_layers": 0}, "num_layers is 0"),
    ],
)
def test_contradicting_sizes_are_refused(tiny: Model, change: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        replace(tiny.config, **change)


def test_kv_bytes_count_keys_and_values_of_all_layers(tiny: Model) -> None:
    assert tiny.config.kv_bytes_per_token(2) == 2 * 2 * 2 * 16 * 2
