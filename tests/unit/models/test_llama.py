# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (transformers and torch leave parts of their signatures open)
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tokenloom.models.errors import ModelError
from tokenloom.models.llama import LlamaReference
from tokenloom.models.registry import Model

PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "Two agents argue about whether 17 is prime. The first says:",
    "Once upon a time, in a city by the sea, ",
]


@pytest.fixture(scope="module")
def reference(smollm2: Model) -> LlamaReference:
    return LlamaReference(smollm2.config, smollm2.weights())


@pytest.mark.model
@pytest.mark.parametrize("prompt", PROMPTS)
def test_logits_and_greedy_tokens_equal_transformers(
    smollm2: Model, reference: LlamaReference, smollm2_oracle: Any, prompt: str
) -> None:
    ids = smollm2.tokenizer.encode(prompt)
    expected = greedy_of_transformers(smollm2_oracle, ids, 16)
    state, logits = reference.extend(reference.start(), ids)
    answer: list[int] = []
    for _ in range(16):
        answer.append(int(logits[-1].argmax()))
        state, logits = reference.extend(state, [answer[-1]])
    assert answer == expected
    _, dense = reference.extend(reference.start(), ids + answer)
    with torch.no_grad():
        logits_of_transformers = smollm2_oracle(torch.tensor([ids + answer])).logits[0].numpy()
    assert np.abs(dense - logits_of_transformers).max() < 1e-3


def greedy_of_transformers(oracle: Any, ids: list[int], num_tokens: int) -> list[int]:
    answer: list[int] = []
    cache = None
    step = ids
    with torch.no_grad():
        for _ in range(num_tokens):
            result = oracle(torch.tensor([step]), past_key_values=cache, use_cache=True)
            cache = result.past_key_values
            answer.append(int(result.logits[0, -1].argmax()))
            step = [answer[-1]]
    return answer


def test_token_by_token_gives_the_logits_of_one_pass(tiny: Model) -> None:
    reference = LlamaReference(tiny.config, tiny.weights())
    ids = list(b"three agents, one plan")
    _, dense = reference.extend(reference.start(), ids)
    state = reference.start()
    rows: list[NDArray[np.float32]] = []
    for token_id in ids:
        state, logits = reference.extend(state, [token_id])
        rows.append(logits[0])
    assert dense.dtype == np.float32
    np.testing.assert_allclose(np.stack(rows), dense, atol=1e-5)


def test_a_state_can_be_extended_twice(tiny: Model) -> None:
    reference = LlamaReference(tiny.config, tiny.weights())
    state, _ = reference.extend(reference.start(), list(b"shared"))
    before = [array.copy() for array in (*state.keys, *state.values)]
    _, first = reference.extend(state, list(b" left"))
    _, other = reference.extend(state, list(b"right"))
    _, again = reference.extend(state, list(b" left"))
    assert state.num_tokens == 6
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    for old, new in zip(before, (*state.keys, *state.values), strict=True):
        np.testing.assert_array_equal(old, new)


def test_text_beyond_the_context_is_refused(tiny: Model) -> None:
    reference = LlamaReference(tiny.config, tiny.weights())
    with pytest.raises(ModelError, match="2049 tokens exceed the context of 'tiny'"):
        reference.extend(reference.start(), [65] * 2049)


@pytest.mark.parametrize("token_id", [-1, 258])
def test_id_outside_the_vocabulary_is_refused(tiny: Model, token_id: int) -> None:
    reference = LlamaReference(tiny.config, tiny.weights())
    with pytest.raises(ModelError, match="outside the vocabulary"):
        reference.extend(reference.start(), [token_id])
