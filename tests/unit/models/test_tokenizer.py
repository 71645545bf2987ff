# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (transformers and torch leave parts of their signatures open)
from __future__ import annotations

import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as HfTokenizer
from transformers import AutoTokenizer

from tokenloom.models.errors import ModelError
from tokenloom.models.registry import Model
from tokenloom.models.tokenizer import Tokenizer

TEXT = """
the of agents cannot Debate unbelievable internationalization
I'll we've don't it's they'd You're 'S O'Neil
0 7 42 1999 3.14 1e-9 0x7fff ½ ² ٣٤ Ⅷ 一二三 100,000
é e\u0301 ñ ß ﬁ Å A\u030a n\u0303\u0323 ZA\u0334\u0321L İ ǆ
Привет мир γειά 你好 世界 こんにちは 안녕 שלום مرحبا नमस्ते ไทย
😀 👩‍👩‍👧‍👦 🇩🇪 👍🏽 🏴‍☠️ ❤️ 🧑🏿‍🚀
def f(x): return -> != == {} [] <= >> && || // /* */ <!-- --> \\n \\ ` ``` # @ $ % ^ ~
https://a.b/c?d=e&f=%20 user@example.org C:\\dir _private __init__ camelCase
<|im im_end|> <| |> ... — “quoted”
"""
SPACES = [" ", "  ", "   ", "        ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\n    ", " \n "]
CONTROLS = ["\u00a0", "\u3000", "\u2028", "\u200b", "\ufeff", "\x00", "\x07", "\x1b[0m", "\x7f"]
PIECES = [*TEXT.split(), *SPACES, *CONTROLS, "\ufffd", "< |im_end| >", "a" * 70, "=" * 33]


def varied_strings(num_strings: int) -> list[str]:
    generator = random.Random(20240607)
    strings: list[str] = ["", " ", "\n", "\x00"]
    while len(strings) < num_strings:
        count = generator.randint(1, 24)
        glue = generator.choice(["", "", " ", " ", "\n"])
        pieces = generator.choices(PIECES, k=count)
        if generator.random() < 0.3:
            pieces.append(chr(generator.choice([generator.randrange(0x20, 0xD800), 0x1F9FF])))
        strings.append(glue.join(pieces))
    return strings


@pytest.fixture(scope="module")
def oracle(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    # In a folder of its own, or transformers would take our tokenizer.json from beside it.
    folder = tmp_path_factory.mktemp("oracle")
    (folder / "model.gguf").symlink_to(smollm2_path)
    return AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")


@pytest.mark.model
def test_ids_equal_transformers_on_varied_strings(smollm2: Model, oracle: Any) -> None:
    # transformers reads vocabulary and merges but does not know the pre-tokenizer "smollm":
    # llama.cpp's regex for it is "\p{N}" and GPT-2's.
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    number = pre_tokenizers.Split(Regex(r"\p{N}"), "isolated")
    backend: HfTokenizer = oracle.backend_tokenizer
    as_loaded = backend.pre_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([number, gpt2])
    try:
        for text in varied_strings(1000):
            expected = oracle.encode(text, add_special_tokens=False)
            assert smollm2.tokenizer.encode(text) == expected, text
            assert smollm2.tokenizer.decode(expected) == text
    finally:
        backend.pre_tokenizer = as_loaded


@pytest.mark.model
def test_ids_differ_from_transformers_as_loaded_only_at_spaces_before_digits(
    smollm2: Model, oracle: Any
) -> None:
    # The model was trained with digits apart, so no token joins a space and a digit.
    vocabulary: dict[str, int] = smollm2.tokenizer.hf.get_vocab()
    assert not any(re.fullmatch("Ġ[0-9]", token) for token in vocabulary)
    strings = varied_strings(1000)
    differing = [
        text
        for text in strings
        if smollm2.tokenizer.encode(text) != oracle.encode(text, add_special_tokens=False)
    ]
    assert all(has_number_after_space(text) for text in differing)
    assert len(differing) < sum(map(has_number_after_space, strings))


def has_number_after_space(text: str) -> bool:
    return any(a.isspace() and b.isnumeric() for a, b in pairwise(text))


@pytest.mark.model
def test_markers_have_the_ids_of_transformers(smollm2: Model, oracle: Any) -> None:
    text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
    assert smollm2.tokenizer.encode_markers(text) == oracle.encode(text, add_special_tokens=False)


@pytest.mark.model
def test_token_bytes_make_up_the_text(smollm2: Model) -> None:
    tokenizer = smollm2.tokenizer
    assert tokenizer.vocab_size == smollm2.config.vocab_size
    for text in varied_strings(200):
        ids = tokenizer.encode(text)
        assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
        decoder = tokenizer.stream()
        assert "".join(map(decoder.push, ids)) + decoder.finish() == text


def test_text_never_becomes_a_marker(tiny: Model) -> None:
    text = "<|im_end|>\n<|im_start|>system\n"
    assert max(tiny.tokenizer.encode(text)) < 256
    assert tiny.tokenizer.decode(tiny.tokenizer.encode(text)) == text


def test_markers_become_special_ids_that_text_leaves_out(tiny: Model) -> None:
    ids = tiny.tokenizer.encode_markers("<|im_start|>a<|im_end|>")
    assert ids == [256, ord("a"), 257]
    assert tiny.tokenizer.decode(ids) == "a"
    assert tiny.tokenizer.token_bytes(256) == b"<|im_start|>"
    assert [tiny.tokenizer.is_special(i) for i in ids] == [True, False, True]


def test_stream_gives_a_character_once_its_bytes_are_complete(tiny: Model) -> None:
    decoder = tiny.tokenizer.stream()
    pushed = [decoder.push(byte) for byte in "é😀".encode()]
    assert pushed == ["", "é", "", "", "", "😀"]
    assert decoder.push(257) == ""
    assert decoder.push(0xF0) == ""
    assert decoder.finish() == "\ufffd"


def test_decode_prints_broken_utf8_as_replacement(tiny: Model) -> None:
    assert tiny.tokenizer.decode([0xC3, ord("a")]) == "\ufffda"


def test_lone_surrogate_is_refused(tiny: Model) -> None:
    with pytest.raises(ModelError, match=r"not valid Unicode: 'a\\ud800'"):
        tiny.tokenizer.encode("a\ud800")


def test_vocabulary_without_special_tokens_has_no_markers() -> None:
    hf = HfTokenizer(models.BPE({"a": 0, "b": 1}, []))
    hf.decoder = decoders.ByteLevel()
    tokenizer = Tokenizer.from_json(hf.to_str())
    assert tokenizer.encode_markers("ab") == [0, 1]


def test_vocabulary_that_is_not_byte_level_is_refused_by_name() -> None:
    hf = HfTokenizer(models.Unigram([("a", 0.0)], unk_id=0))
    hf.decoder = decoders.Metaspace()
    with pytest.raises(ModelError, match="type Unigram with decoder Metaspace is not supported"):
        Tokenizer.from_json(hf.to_str())


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", Path(__file__).name])
def test_damaged_tokenizer_json_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read"):
        Tokenizer.from_json(text)
