from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.models.answers import parse_answer, shortest_answer, shortest_answer_tokens
from tokenloom.models.registry import resolve
from tokenloom.runtime.constrain import ConstraintError, Grammars
from tokenloom.runtime.sampling import SamplingParams

MODEL = resolve("tiny", Path("."))
VOCAB_SIZE = MODEL.config.vocab_size
GRAMMARS = Grammars(MODEL.tokenizer, VOCAB_SIZE, MODEL.config.eos_ids)


def generate(answer: dict[str, Any], max_tokens: int, temperature: float, seed: int) -> str:
    """Answer from logits that know nothing: noise, with a leaning towards a few tokens."""
    random = np.random.default_rng(seed)
    leaning = random.standard_normal(VOCAB_SIZE).astype(np.float32) * 2
    params = SamplingParams(max_tokens, temperature=temperature, seed=seed)
    constraint = GRAMMARS.constrain(answer, max_tokens)
    output: list[int] = []
    while len(output) < max_tokens and not constraint.finished:
        noise = random.standard_normal(VOCAB_SIZE).astype(np.float32)
        token = constraint.choose(leaning + noise, params, len(output))
        if token in GRAMMARS.eos_ids:
            break
        output.append(token)
    return MODEL.tokenizer.decode(output)


scalars = st.one_of(
    st.just({"kind": "bool"}),
    st.just({"kind": "float"}),
    st.builds(lambda: {"kind": "int"}),
    st.tuples(st.integers(-2000, 2000), st.integers(0, 3000)).map(
        lambda pair: {"kind": "int", "min": pair[0], "max": pair[0] + pair[1]}
    ),
    st.lists(st.text('abé"\\|', min_size=1, max_size=5), min_size=1, max_size=4, unique=True).map(
        lambda values: {"kind": "enum", "values": values}
    ),
    st.integers(0, 12).map(lambda limit: {"kind": "text", "max": limit}),
    st.just({"kind": "text"}),
    st.sampled_from(["[a-z]{2,}", '(ab|é")+', "\\d+ \\w*|x", ".{3}"]).map(
        lambda regex: {"kind": "text", "regex": regex}
    ),
)


def containers(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    names = st.lists(st.text("abé ", min_size=1, max_size=4), max_size=3, unique=True)
    record = names.flatmap(
        lambda fields: st.tuples(*(st.tuples(st.just(name), inner) for name in fields))
    )
    return st.one_of(
        inner.map(lambda item: {"kind": "list", "item": item}),
        inner.map(lambda item: {"kind": "optional", "item": item}),
        record.map(lambda fields: {"kind": "record", "fields": [list(field) for field in fields]}),
    )


answers = st.recursive(scalars, containers, max_leaves=4)


@settings(max_examples=150, deadline=None)
@given(
    answer=answers,
    slack=st.sampled_from([0, 1, 2, 5, 30]),
    temperature=st.sampled_from([0.0, 1.0, 3.0]),
    seed=st.integers(0, 2**32),
)
def test_every_answer_parses_within_its_budget(
    answer: dict[str, Any], slack: int, temperature: float, seed: int
):
    max_tokens = shortest_answer_tokens(answer, MODEL.tokenizer) + slack
    parse_answer(answer, generate(answer, max_tokens, temperature, seed))


def test_a_budget_of_the_shortest_answer_gives_the_shortest_answer():
    answer = {"kind": "list", "item": {"kind": "record", "fields": [["a", {"kind": "text"}]]}}
    assert generate(answer, len("[]"), 1.0, seed=4) == shortest_answer(answer) == "[]"


def test_a_budget_below_the_shortest_answer_is_refused():
    with pytest.raises(ConstraintError, match="shortest answer has 4 tokens and max is 3"):
        GRAMMARS.constrain({"kind": "bool"}, 3)


def test_an_answer_that_cannot_go_on_is_finished_without_an_end_marker():
    constraint = GRAMMARS.constrain({"kind": "enum", "values": ["a", "b"]}, 8)
    logits = np.zeros(VOCAB_SIZE, np.float32)
    assert not constraint.finished
    assert constraint.choose(logits, SamplingParams(8), 0) == ord("a")
    assert constraint.finished


def test_the_likely_answer_is_taken_where_it_is_allowed():
    constraint = GRAMMARS.constrain({"kind": "enum", "values": ["against", "for"]}, 8)
    logits = np.zeros(VOCAB_SIZE, np.float32)
    logits[ord("x")], logits[ord("f")] = 9.0, 5.0
    assert constraint.choose(logits, SamplingParams(8), 0) == ord("f")


def test_an_end_marker_is_allowed_only_where_the_answer_may_end():
    eos_id = MODEL.config.eos_ids[0]
    constraint = GRAMMARS.constrain({"kind": "text", "regex": "a+"}, 8)
    logits = np.zeros(VOCAB_SIZE, np.float32)
    logits[eos_id] = 9.0
    assert constraint.choose(logits, SamplingParams(8), 0) == ord("a")
    assert constraint.choose(logits, SamplingParams(8), 1) == eos_id
