from __future__ import annotations

import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import quants

from tokenloom.models.cache import cache_dir
from tokenloom.models.errors import ModelError
from tokenloom.models.gguf_header import read_header
from tokenloom.models.gguf_tokenizer import build_tokenizer_json
from tokenloom.models.llama import LlamaReference
from tokenloom.models.registry import Model, resolve
from tokenloom.models.tensor_names import GGUF
from tokenloom.models.tokenizer import Tokenizer, byte_spelling
from tokenloom.models.weights import Array, Weights

Change = Callable[[gguf.GGUFWriter], None]
Stored = gguf.GGMLQuantizationType


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path / "cache"))


def interleave(rows: Array, head_dim: int) -> Array:
    """What llama.cpp's convert_hf_to_gguf.py (LlamaModel.permute) does to query and key rows."""
    heads = rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:])
    return heads.swapaxes(1, 2).reshape(rows.shape)


def write_tiny(
    path: Path,
    tiny: Model,
    *,
    architecture: str = "llama",
    stored: Stored = Stored.F32,
    extra: dict[str, Array] | None = None,
    skip: str = "",
    metadata: dict[str, Any] | None = None,
) -> Path:
    config, weights = tiny.config, tiny.weights()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_layers)
    writer.add_context_length(config.max_context)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.ffn_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope.theta)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    tokens = [character for _, character in sorted(byte_spelling().items())]
    tokens[0xFF] = "th"  # in place of a byte that UTF-8 never has
    writer.add_token_list([*tokens, "<|im_start|>", "<|im_end|>"])
    writer.add_token_types([1] * 256 + [3, 3])
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(257)
    writer.add_chat_template(tiny.template.source)
    for key, value in (metadata or {}).items():
        writer.add_key_value(f"{architecture}.{key}", value, value_type(value))
    for name, tensor in {**tensors(weights, architecture), **(extra or {})}.items():
        if name != skip:
            write_tensor(writer, name, tensor, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def value_type(value: Any) -> gguf.GGUFValueType:
    kinds = {str: gguf.GGUFValueType.STRING, float: gguf.GGUFValueType.FLOAT32}
    return kinds.get(value.__class__, gguf.GGUFValueType.UINT32)


def tensors(weights: Weights, architecture: str) -> dict[str, Array]:
    config = resolve("tiny", Path()).config
    query = config.num_heads * config.head_dim
    cuts = {"qkv": [query, query + config.num_kv_heads * config.head_dim], "gate_up": [128]}
    found: dict[str, Array] = {}
    for canonical in weights.names():
        names = GGUF.tensors(canonical, config)
        pieces = np.split(weights.get(canonical), cuts.get(canonical.split(".")[-1], []))
        for name, piece in zip(names, pieces, strict=True):
            rotated = architecture == "llama" and ("attn_q." in name or "attn_k." in name)
            found[name] = interleave(piece, config.head_dim) if rotated else piece
    return found


def write_tensor(writer: gguf.GGUFWriter, name: str, tensor: Array, stored: Stored) -> None:
    if tensor.ndim == 1 or stored == Stored.F32:
        writer.add_tensor(name, np.ascontiguousarray(tensor))
    elif stored == Stored.F16:
        writer.add_tensor(name, tensor.astype(np.float16))
    else:
        writer.add_tensor(name, quants.quantize(tensor, stored), raw_dtype=stored)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_a_local_file_is_the_model_it_was_written_from(
    tmp_path: Path, tiny: Model, architecture: str
) -> None:
    write_tiny(tmp_path / "t.gguf", tiny, architecture=architecture)
    model = resolve("t.gguf", tmp_path)
    ids = list(b"the same model")
    expected = LlamaReference(tiny.config, tiny.weights())
    _, logits = LlamaReference(model.config, model.weights()).extend(expected.start(), ids)
    np.testing.assert_allclose(logits, expected.extend(expected.start(), ids)[1], atol=1e-6)
    for name in tiny.weights().names():
        np.testing.assert_array_equal(model.weights().get(name), tiny.weights().get(name))
    assert model.config.eos_ids == (257,)
    assert not model.config.tie_embeddings
    assert model.tokenizer.encode("thé") == [0xFF, 0xC3, 0xA9]
    assert model.template.assistant_open == tiny.template.assistant_open


@pytest.mark.parametrize("stored", [Stored.Q4_1, Stored.Q8_0, Stored.F16])
def test_formats_are_dequantized_as_ggml_does(tmp_path: Path, tiny: Model, stored: Stored) -> None:
    write_tiny(tmp_path / "t.gguf", tiny, stored=stored)
    weights = resolve("t.gguf", tmp_path).weights()
    for name in ("embed", "layers.1.down"):
        raw = tiny.weights().get(name)
        packed = quants.quantize(raw, stored)
        np.testing.assert_array_equal(weights.get(name), quants.dequantize(packed, stored))


@pytest.mark.model
def test_all_tensors_of_smollm2_are_dequantized_as_ggml_does(
    smollm2: Model, smollm2_path: Path
) -> None:
    weights = smollm2.weights()
    head_dim = smollm2.config.head_dim
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(smollm2_path).tensors}
    for canonical in ("embed", "norm", "layers.0.qkv", "layers.17.gate_up", "layers.29.down"):
        pieces: list[Array] = []
        for name in GGUF.tensors(canonical, smollm2.config):
            piece = quants.dequantize(found[name].data, found[name].tensor_type)
            if "attn_q." in name or "attn_k." in name:
                heads = piece.reshape(-1, head_dim // 2, 2, piece.shape[1])
                piece = heads.swapaxes(1, 2).reshape(piece.shape)
            pieces.append(piece)
        np.testing.assert_array_equal(weights.get(canonical), np.concatenate(pieces))


@pytest.mark.model
def test_header_is_that_of_the_gguf_library(smollm2_path: Path) -> None:
    header, expected = read_header(smollm2_path), gguf.GGUFReader(smollm2_path)
    found = [(t.name, t.format, t.offset_bytes, t.shape) for t in header.tensors]
    assert found == [
        (t.name, t.tensor_type.name, t.data_offset, tuple(int(size) for size in t.shape[::-1]))
        for t in expected.tensors
    ]
    fields = {key for key in expected.fields if not key.startswith("GGUF.")}
    assert set(header.metadata) == fields
    for key in fields - {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"}:
        assert header.metadata[key] == expected.fields[key].contents()


def test_the_index_is_used_until_the_file_changes(tmp_path: Path, tiny: Model) -> None:
    path = write_tiny(tmp_path / "t.gguf", tiny)
    first = resolve("t.gguf", tmp_path)
    (index,) = (cache_dir() / "indexes").glob("t-*/index.json")
    written = index.stat().st_mtime_ns
    assert resolve("t.gguf", tmp_path).digest == first.digest
    assert index.stat().st_mtime_ns == written
    write_tiny(path, tiny, metadata={"rope.scaling.type": "linear", "rope.scaling.factor": 2.0})
    second = resolve("t.gguf", tmp_path)
    assert second.digest != first.digest
    assert second.config.rope.kind == "linear"


def test_a_damaged_index_is_made_anew(tmp_path: Path, tiny: Model) -> None:
    write_tiny(tmp_path / "t.gguf", tiny)
    digest = resolve("t.gguf", tmp_path).digest
    (index,) = (cache_dir() / "indexes").glob("t-*/index.json")
    index.write_text("{")
    assert resolve("t.gguf", tmp_path).digest == digest


def test_every_cut_file_is_refused(tmp_path: Path, tiny: Model) -> None:
    path = write_tiny(tmp_path / "t.gguf", tiny)
    whole = path.read_bytes()
    for size in [0, 3, 4, 23, 24, 200, 1000, 5000, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"cut short|not a GGUF|cannot be read"):
            resolve("t.gguf", tmp_path)


def test_a_damaged_header_is_refused_or_read_but_never_breaks(tmp_path: Path, tiny: Model) -> None:
    path = write_tiny(tmp_path / "t.gguf", tiny)
    whole = path.read_bytes()
    header_size = read_header(path).tensors[0].offset_bytes
    generator = random.Random(5)
    messages: list[str] = []
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(generator.choice([1, 3])):
            data[generator.randrange(header_size)] = generator.choice([0, 1, 0x7F, 0xFF])
        path.write_bytes(data)
        try:
            model = resolve("t.gguf", tmp_path)
            assert model.tokenizer.token_bytes(65)
            assert model.template.user_open
            model.weights().get("layers.1.qkv")
        except ModelError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert all(messages)


def test_huge_counts_are_refused_at_once(tmp_path: Path, tiny: Model) -> None:
    path = write_tiny(tmp_path / "t.gguf", tiny)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack("<Q", 2**62)
    path.write_bytes(data)
    with pytest.raises(ModelError, match="damaged or cut short"):
        resolve("t.gguf", tmp_path)


def test_a_file_that_is_not_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.gguf").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ModelError, match="is not a GGUF file"):
        resolve("t.gguf", tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "gemma"}, "architecture 'gemma' is not supported"),
        ({"stored": Stored.Q4_0}, "stored as Q4_0, which is not supported"),
        ({"skip": "blk.1.ffn_up.weight"}, r"no tensor 'blk\.1\.ffn_up\.weight'"),
        ({"metadata": {"expert_count": 8}}, "mixture-of-experts"),
        ({"metadata": {"rope.dimension_count": 8}}, "part of each head"),
        ({"metadata": {"rope.scaling.type": "longrope", "rope.scaling.factor": 2.0}}, "'longrope'"),
        ({"extra": {"blk.0.attn_output.bias": np.zeros(64, np.float32)}}, "has no place"),
        ({"extra": {"rope_freqs.weight": np.full(8, 3, np.float32)}}, "table of rotary"),
    ],
)
def test_unsupported_files_are_refused_by_name(
    tmp_path: Path, tiny: Model, options: dict[str, Any], message: str
) -> None:
    write_tiny(tmp_path / "t.gguf", tiny, **options)
    with pytest.raises(ModelError, match=message):
        resolve("t.gguf", tmp_path)


def test_llama3_scaling_is_recognized_from_its_table(tmp_path: Path, tiny: Model) -> None:
    plain = tiny.config.rope.inverse_frequencies(16)
    scaled = type(tiny.config.rope)("llama3", 10000.0, 8.0, 8192).inverse_frequencies(16)
    table = (plain / scaled).astype(np.float32)
    write_tiny(tmp_path / "t.gguf", tiny, extra={"rope_freqs.weight": table})
    rope = resolve("t.gguf", tmp_path).config.rope
    assert (rope.kind, rope.factor, rope.original_context) == ("llama3", 8.0, 8192)


@pytest.mark.parametrize(
    ("pre_tokenizer", "text", "pieces"),
    [
        ("gpt-2", "It's  12345 ok\n\n x", ["It", "'s", " ", " 12345", " ok", "\n\n", " x"]),
        ("smollm", "a  12 b", ["a", "  ", "1", "2", " b"]),
        ("llama-bpe", "IT'S 12345\n\n x", ["IT", "'S", " ", "123", "45", "\n\n", " x"]),
        ("qwen2", "IT'S 123\n x", ["IT", "'S", " ", "1", "2", "3", "\n", " x"]),
    ],
)
def test_pre_tokenizers_split_as_published(
    pre_tokenizer: str, text: str, pieces: list[str]
) -> None:
    tokenizer = Tokenizer.from_json(build_tokenizer_json(vocabulary(pre_tokenizer)))
    splitter: Any = tokenizer.hf.pre_tokenizer
    spelling = byte_spelling()
    spelled = ["".join(spelling[byte] for byte in piece.encode()) for piece in pieces]
    assert [piece for piece, _ in splitter.pre_tokenize_str(text)] == spelled


def vocabulary(pre_tokenizer: str) -> dict[str, Any]:
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre_tokenizer,
        "tokenizer.ggml.tokens": [*byte_spelling().values(), "<think>"],
        "tokenizer.ggml.token_type": [1] * 256 + [4],
        "tokenizer.ggml.merges": [],
    }


def test_user_defined_tokens_are_ordinary_text() -> None:
    tokenizer = Tokenizer.from_json(build_tokenizer_json(vocabulary("qwen2")))
    assert tokenizer.encode("<think>") == [256]
    assert tokenizer.decode([256]) == "<think>"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer.ggml.model": "llama"}, "tokenizer 'llama' is not supported"),
        ({"tokenizer.ggml.pre": "tekken"}, "pre-tokenizer 'tekken' is not supported"),
        ({"tokenizer.ggml.merges": ["a missing"]}, "do not fit"),
    ],
)
def test_unsupported_tokenizers_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_tokenizer_json({**vocabulary("gpt-2"), **change})


def test_opening_an_indexed_model_imports_nothing_heavy(tmp_path: Path, tiny: Model) -> None:
    write_tiny(tmp_path / "t.gguf", tiny)
    resolve("t.gguf", tmp_path)
    program = (
        "import sys; from pathlib import Path; from tokenloom.models.registry import resolve\n"
        f"m = resolve('t.gguf', Path({str(tmp_path)!r})); m.weights().get('embed')\n"
        "m.tokenizer, m.template\n"
        "print([n for n in ('torch', 'transformers', 'gguf', 'tvm') if n in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
