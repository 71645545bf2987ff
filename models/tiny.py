"""A seeded random model of two layers, for tests: no file, a byte for a token."""

# pyright: reportUnknownMemberType=false
# (the stubs of tokenizers leave the elements of lists open)
from __future__ import annotations

import hashlib
import json
import zlib

import numpy as np
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as HfTokenizer

from tokenloom.models.config import ModelConfig, RopeConfig
from tokenloom.models.template import ChatTemplate
from tokenloom.models.tokenizer import Tokenizer, byte_spelling
from tokenloom.models.weights import Array, Weights, weight_shapes

NAME = "tiny"
_SEED = 2024
_START, _END = "<|im_start|>", "<|im_end|>"
_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class TinyModel:
    """The built-in model `tiny`: ids 0 to 255 are the bytes, 256 and 257 the turn markers."""

    name = NAME
    config = ModelConfig(
        name=NAME,
        vocab_size=258,
        hidden_size=64,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        ffn_size=128,
        norm_eps=1e-5,
        rope=RopeConfig("plain", theta=10000.0),
        max_context=2048,
        tie_embeddings=False,
        eos_ids=(257,),
    )

    def digest(self) -> str:
        """SHA-256 of the seed and the configuration: they make the weights."""
        identity = json.dumps([_SEED, self.config.to_json()], sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()

    def tokenizer(self) -> Tokenizer:
        """Bytes and the two markers of ChatML."""
        spelled = {character: byte for byte, character in byte_spelling().items()}
        hf = HfTokenizer(models.BPE(vocab=spelled, merges=[]))
        hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        hf.decoder = decoders.ByteLevel()
        markers = [AddedToken(text, special=True, normalized=False) for text in (_START, _END)]
        hf.add_special_tokens(markers)
        return Tokenizer(hf)

    def template(self) -> ChatTemplate:
        """ChatML, without a default system turn."""
        return ChatTemplate(_TEMPLATE, self.name)

    def weights(self) -> Weights:
        """Draw normal values, seeded by name and scaled to keep activations near one."""
        shapes = weight_shapes(self.config)

        def read(name: str) -> Array:
            generator = np.random.default_rng([_SEED, zlib.crc32(name.encode())])
            shape = shapes[name]
            values = generator.standard_normal(shape)
            if len(shape) == 1:
                return (1 + 0.1 * values).astype(np.float32)
            scale = 1.0 if name == "embed" else shape[-1] ** -0.5
            return (values * scale).astype(np.float32)

        return Weights(self.config, read)
