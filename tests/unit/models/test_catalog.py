from __future__ import annotations

from pathlib import Path

import pytest

from tokenloom.models.catalog import catalog
from tokenloom.models.errors import ModelError
from tokenloom.models.registry import resolve


# The totals that the Hugging Face hub shows for these checkpoints.
@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [
        ("smollm2-135m", 134_515_008),
        ("smollm2-360m", 361_821_120),
        ("smollm2-1.7b", 1_711_376_384),
        ("llama-7b", 6_738_415_616),
        ("llama-65b", 65_285_660_672),
        ("llama-2-7b", 6_738_415_616),
        ("llama-2-13b", 13_015_864_320),
        ("llama-2-70b", 68_976_648_192),
        ("llama-3-8b", 8_030_261_248),
        ("llama-3-70b", 70_553_706_496),
        ("qwen2.5-0.5b", 494_032_768),
        ("qwen2.5-7b", 7_615_616_512),
        ("qwen2.5-14b", 14_770_033_664),
        ("qwen2.5-32b", 32_763_876_352),
        ("qwen2.5-72b", 72_706_203_648),
        ("qwen3-8b", 8_190_735_360),
        ("mistral-7b", 7_248_023_552),
    ],
)
def test_parameters_are_those_published(name: str, num_parameters: int) -> None:
    assert catalog()[name].num_parameters() == num_parameters


def test_gpt_stand_in_is_as_large_as_the_original() -> None:
    assert catalog()["gpt-175b"].num_parameters() == pytest.approx(175e9, rel=0.005)


def test_a_shape_has_a_configuration_and_says_that_it_has_no_weights() -> None:
    model = resolve("llama-3-8b", Path())
    assert model.config.kv_bytes_per_token(2) == 131_072
    with pytest.raises(ModelError, match="'llama-3-8b' is a published shape"):
        model.weights()
    with pytest.raises(ModelError, match="published shape"):
        _ = model.tokenizer


# What the models are called after, in 10^9: GPT-3, LLaMA, OPT and Megatron papers.
@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("gpt-89b", 88),
        ("gpt-13b", 12.9),
        ("opt-66b", 65.7),
        ("mt-76b", 76.1),
        ("mt-146b", 145.6),
        ("mt-310b", 310.1),
        ("mt-530b", 529.6),
        ("mt-1008b", 1008),
    ],
)
def test_stand_ins_are_as_large_as_the_originals(name: str, billions: float) -> None:
    config = catalog()[name]
    assert config.num_parameters() == pytest.approx(billions * 1e9, rel=0.005)
    assert config.plain_ffn_size == 4 * config.hidden_size == 4 * config.num_heads * config.head_dim
    assert config.ffn_size == round(config.plain_ffn_size * 2 / 3)
