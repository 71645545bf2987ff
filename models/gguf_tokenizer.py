"""A `tokenizer.json` out of a GGUF file's vocabulary, merges and pre-tokenizer name.

Knows nothing of the model behind the vocabulary.
"""

# pyright: reportUnknownMemberType=false
# (the stubs of tokenizers leave the elements of lists open)
from __future__ import annotations

from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
)

from tokenloom.models.errors import ModelError
from tokenloom.models.gguf_header import entries, entry

_CONTROL, _USER_DEFINED = 3, 4  # token types of GGUF

# Published `tokenizer.json` files of meta-llama/Meta-Llama-3-8B and Qwen/Qwen2-7B.
_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2_SPLIT = _LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")


def build_tokenizer_json(metadata: dict[str, Any]) -> str:
    """Build the text of a `tokenizer.json` from GGUF metadata.

    Raises ModelError for a tokenizer or pre-tokenizer that is not supported, naming it.
    """
    kind = entry(metadata, "tokenizer.ggml.model", str)
    if kind != "gpt2":
        raise ModelError(f"tokenizer '{kind}' is not supported: only byte-level BPE ('gpt2') is")
    tokens = entries(metadata, "tokenizer.ggml.tokens", str)
    pairs = [merge.partition(" ") for merge in entries(metadata, "tokenizer.ggml.merges", str)]
    merges = [(left, right) for left, _, right in pairs]
    pre_tokenizer = entry(metadata, "tokenizer.ggml.pre", str)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    try:
        tokenizer = Tokenizer(
            models.BPE(vocabulary, merges, ignore_merges=pre_tokenizer == "llama-bpe")
        )
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelError(f"the vocabulary and its merges do not fit: {error}") from error
    tokenizer.pre_tokenizer = _pre_tokenizer(pre_tokenizer)
    if pre_tokenizer == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    _add_special(tokenizer, tokens, entries(metadata, "tokenizer.ggml.token_type", int))
    return tokenizer.to_str()


def _pre_tokenizer(name: str) -> pre_tokenizers.PreTokenizer:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    known = {
        "gpt-2": gpt2,
        # HuggingFaceTB/SmolLM2-135M-Instruct, tokenizer.json; llama.cpp's "smollm" is the same.
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2]),
        "llama-bpe": pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(_LLAMA3_SPLIT), "isolated"), byte_level]
        ),
        "qwen2": pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(_QWEN2_SPLIT), "isolated"), byte_level]
        ),
    }
    if name not in known:
        raise ModelError(f"pre-tokenizer '{name}' is not supported (supported: {', '.join(known)})")
    return known[name]


def _add_special(tokenizer: Tokenizer, tokens: list[str], types: list[int]) -> None:
    """Mark control tokens as special; user-defined ones (such as <think>) stay ordinary text."""
    typed = list(zip(tokens, types, strict=False))
    tokenizer.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t, kind in typed if kind == _CONTROL]
    )
    tokenizer.add_tokens(
        [AddedToken(t, normalized=False) for t, kind in typed if kind == _USER_DEFINED]
    )
