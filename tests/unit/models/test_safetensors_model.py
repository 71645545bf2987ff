# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (transformers and torch leave parts of their signatures open)
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tokenloom.models.errors import ModelError
from tokenloom.models.llama import LlamaReference
from tokenloom.models.registry import Model, resolve

SIZES: dict[str, Any] = {
    "vocab_size": 258,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
    "max_position_embeddings": 256,
    "eos_token_id": 257,
    "bos_token_id": 256,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}


def save(model: Any, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # transformers starts norms at one and biases at zero, which would hide mistakes.
            generator = torch.Generator().manual_seed(len(name) * 31 + parameter.numel())
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (0.2 if parameter.dim() == 1 else 0.05))
    model.to(dtype).save_pretrained(folder)
    return type(model).from_pretrained(folder, dtype=torch.float32).eval()


def assert_same_logits(folder: Path, oracle: Any) -> None:
    model = resolve(folder.name, folder.parent)
    reference = LlamaReference(model.config, model.weights())
    ids = list(b"a debate between three agents, played by a model of random weights")
    _, logits = reference.extend(reference.start(), ids)
    with torch.no_grad():
        expected = oracle(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(logits, expected, atol=2e-5)
    assert np.abs(expected).max() > 0.1
    assert model.config.num_parameters() == sum(p.numel() for p in set(oracle.parameters()))


@pytest.mark.parametrize(
    "model",
    [
        lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=False)),
        lambda: LlamaForCausalLM(LlamaConfig(**SIZES, head_dim=32, tie_word_embeddings=True)),
        lambda: LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=LLAMA3)),
        lambda: LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=YARN)),
        lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None)),
        lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
        lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=16)),
    ],
    ids=["llama", "llama-tied-wide-heads", "llama3-rope", "yarn", "mistral", "qwen2", "qwen3"],
)
def test_logits_equal_transformers(model: Any, tmp_path: Path) -> None:
    torch.manual_seed(7)
    assert_same_logits(tmp_path / "m", save(model(), tmp_path / "m"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_files_are_read_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(7)
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    assert_same_logits(tmp_path / "m", save(model, tmp_path / "m", dtype))


def test_shards_are_one_model(tmp_path: Path) -> None:
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    model.save_pretrained(tmp_path / "m", max_shard_size="50KB")
    assert len(list((tmp_path / "m").glob("*.safetensors"))) > 1
    assert_same_logits(tmp_path / "m", model.eval())


@pytest.fixture
def folder(tmp_path: Path, tiny: Model) -> Path:
    path = tmp_path / "llama"
    LlamaForCausalLM(LlamaConfig(**SIZES)).save_pretrained(path)
    (path / "tokenizer.json").write_text(tiny.tokenizer.hf.to_str(), encoding="utf-8")
    settings = {"chat_template": tiny.template.source, "bos_token": {"content": "<|im_start|>"}}
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return path


def test_tokenizer_template_and_stops_come_from_the_folder(folder: Path, tiny: Model) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": [257, 3]}')
    model = resolve("llama", folder.parent)
    assert model.tokenizer.encode_markers("<|im_end|>é") == [257, 0xC3, 0xA9]
    assert model.template.user_open == tiny.template.user_open
    assert model.config.eos_ids == (257, 3)
    assert model.config.bos_id == 256


def test_template_in_a_file_of_its_own_wins(folder: Path) -> None:
    source = (folder / "tokenizer_config.json").read_text()
    template = json.loads(source)["chat_template"].replace("im_start", "turn")
    (folder / "chat_template.jinja").write_text(template)
    assert resolve("llama", folder.parent).template.user_open == "<|turn|>user\n"


def test_digest_covers_every_weight(folder: Path) -> None:
    before = resolve(str(folder), Path()).digest
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert resolve(str(folder), Path()).digest != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gemma"}, "type 'gemma' is not supported"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"attention_bias": True}, "bias in the attention output"),
        ({"mlp_bias": True}, "biases in the MLP"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "kind 'dynamic'"),
        ({"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, "kind 'longrope'"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "part of each head"),
        ({"hidden_size": "wide"}, "config.json is not valid"),
    ],
)
def test_unsupported_features_are_refused_by_name(
    folder: Path, change: dict[str, Any], message: str
) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=message):
        resolve("llama", folder.parent)


def test_sliding_window_cuts_the_context(tmp_path: Path) -> None:
    model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=64))
    model.save_pretrained(tmp_path / "m")
    assert resolve("m", tmp_path).config.max_context == 64


@pytest.mark.parametrize("key", ["num_hidden_layers", "vocab_size", "intermediate_size"])
def test_weights_that_do_not_fit_the_configuration_are_refused(folder: Path, key: str) -> None:
    path = folder / "config.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, key: data[key] + 1}))
    with pytest.raises(ModelError, match=r"no tensor 'model\.layers\.2|do not make up"):
        resolve("llama", folder.parent).weights()


def test_weights_without_a_place_are_refused_by_name(folder: Path) -> None:
    path = folder / "config.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "num_hidden_layers": 1}))
    with pytest.raises(ModelError, match=r"tensor 'model\.layers\.1\..*' has no place"):
        resolve("llama", folder.parent).weights()


def test_cut_weights_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged or cut short"):
        resolve("llama", folder.parent).weights()


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_incomplete_folder_is_refused(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ModelError, match="holds no model"):
        resolve("llama", folder.parent)


def test_missing_tokenizer_and_template_are_named(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    model = resolve("llama", folder.parent)
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read"):
        _ = model.tokenizer
    with pytest.raises(ModelError, match="has no chat template"):
        _ = model.template
