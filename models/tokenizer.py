"""Text to token ids and back, for byte-level BPE vocabularies.

Users' text and template markers take different doors, so that text can never become a marker.
Knows nothing of models' shapes or of where a vocabulary came from.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from functools import cached_property, lru_cache

from tokenizers import Tokenizer as HfTokenizer

from tokenloom.models.errors import ModelError


def byte_spelling() -> dict[int, str]:
    """Map each byte to the printable character that spells it in a byte-level vocabulary.

    Source: `bytes_to_unicode` in openai/gpt-2, src/encoder.py.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    spelled = [*printable, *range(256, 256 + len(others))]
    return {byte: chr(code) for byte, code in zip(printable + others, spelled, strict=True)}


class Tokenizer:
    """A byte-level vocabulary; thread-safe once built."""

    def __init__(self, hf: HfTokenizer) -> None:
        """Take over `hf` (its special tokens are switched off from here on).

        Raises ModelError for a vocabulary that is not byte-level, whose tokens are therefore
        not bytes by themselves.
        """
        hf.encode_special_tokens = True
        self.hf = hf
        self.vocab_size = hf.get_vocab_size(with_added_tokens=True)
        self._added = hf.get_added_tokens_decoder()
        self._special_ids = {token_id for token_id, token in self._added.items() if token.special}

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Read the text of a `tokenizer.json`, or take the one already read from the same text.

        Raises ModelError when it is not a usable one.
        """
        return _read(text)

    def encode(self, text: str) -> list[int]:
        """Ids of text that is only text: "<|im_end|>" in it is ten ordinary characters."""
        try:
            return self.hf.encode(text, add_special_tokens=False).ids
        except TypeError:
            raise ModelError(f"text is not valid Unicode: {text[:40]!a}") from None

    def encode_markers(self, text: str) -> list[int]:
        """Ids of a chat template's own text, in which special tokens count as such."""
        ids: list[int] = []
        for index, piece in enumerate(self._marker_pattern.split(text)):
            if index % 2:
                ids.append(self._marker_ids[piece])
            elif piece:
                ids.extend(self.encode(piece))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids` without special tokens; bytes that are not UTF-8 print as U+FFFD."""
        shown = (self.token_bytes(i) for i in ids if i not in self._special_ids)
        return b"".join(shown).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that `token_id` stands for; of a special token, its name.

        Empty for an id that the vocabulary leaves out. Raises IndexError beyond the last id.
        """
        return self._bytes[token_id]

    def is_special(self, token_id: int) -> bool:
        """Whether `token_id` is a marker that no text can produce and that `decode` leaves out."""
        return token_id in self._special_ids

    def stream(self) -> Decoder:
        """Make a decoder for one answer, fed token by token."""
        return Decoder(self)

    @cached_property
    def _bytes(self) -> list[bytes]:
        # Each spelling becomes the character of its byte; what spells none, one beyond Latin-1.
        unspelled = dict.fromkeys(range(256), "\u0100")
        unspelled |= {ord(character): chr(byte) for byte, character in byte_spelling().items()}
        vocabulary = self.hf.get_vocab(with_added_tokens=True)
        table = [b""] * (max(vocabulary.values(), default=-1) + 1)
        for token, token_id in vocabulary.items():
            try:
                table[token_id] = token.translate(unspelled).encode("latin-1")
            except UnicodeEncodeError:
                # Some files hold a marker as an ordinary token, in letters that spell no byte.
                table[token_id] = token.encode()
        for token_id, token in self._added.items():
            table[token_id] = token.content.encode()
        return table

    @cached_property
    def _marker_ids(self) -> dict[str, int]:
        return {self._added[token_id].content: token_id for token_id in self._special_ids}

    @cached_property
    def _marker_pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self._marker_ids, key=len, reverse=True)
        # Without special tokens: a pattern that never matches, not one that always does.
        return re.compile("(" + ("|".join(map(re.escape, longest_first)) or "(?!)") + ")")


class Decoder:
    """Text of a growing answer: a character appears once all of its bytes have come."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """Return the text that `token_id` completes; often empty within one character."""
        if self._tokenizer.is_special(token_id):
            return ""
        return self._utf8.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """Return what is left at the end; a cut character prints as U+FFFD."""
        return self._utf8.decode(b"", final=True)


@lru_cache(maxsize=2)  # a script is compiled and run with the same one
def _read(text: str) -> Tokenizer:
    try:
        hf = HfTokenizer.from_str(text)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelError(f"tokenizer.json cannot be read: {error}") from error
    _require_byte_level(hf)
    return Tokenizer(hf)


def _require_byte_level(hf: HfTokenizer) -> None:
    """Refuse by name what is not byte-level BPE: a Metaspace or byte-fallback vocabulary."""
    kind, decoder_kind = type(hf.model).__name__, type(hf.decoder).__name__
    if kind != "BPE" or decoder_kind != "ByteLevel":
        raise ModelError(
            f"tokenizer of type {kind} with decoder {decoder_kind} is not supported: "
            "only byte-level BPE is (the kind of SmolLM2, Llama 3, Qwen 2 and 3)"
        )
