from __future__ import annotations

import numpy as np
import pytest

from tokenloom.runtime.sampling import SamplingError, SamplingParams, ask_seed, sample


def logits_of(probabilities: list[float]):
    with np.errstate(divide="ignore"):
        return np.log(np.array(probabilities, np.float32))


def test_greedy_takes_the_lowest_of_equal_ids():
    params = SamplingParams(8)
    assert sample(np.array([1, 3, 3, 2], np.float32), params, 0) == 1


def test_a_draw_depends_on_seed_and_step_alone():
    logits = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    params = SamplingParams(8, temperature=1.0, seed=7)
    first = [sample(logits, params, step) for step in range(20)]
    assert first == [sample(logits, params, step) for step in reversed(range(20))][::-1]
    assert first != [sample(logits, SamplingParams(8, 1.0, seed=8), s) for s in range(20)]
    assert len(set(first)) > 10


def test_frequencies_are_the_probabilities():
    probabilities = [0.5, 0.3, 0.15, 0.05]
    params = SamplingParams(8, temperature=1.0, seed=3)
    draws = [sample(logits_of(probabilities), params, step) for step in range(4000)]
    shares = np.bincount(draws, minlength=4) / 4000
    assert np.abs(shares - probabilities).max() < 0.03


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.49, {0}), (0.51, {0, 1}), (0.8, {0, 1}), (0.96, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_fewest_that_reach_it(top_p: float, kept: set[int]):
    logits = logits_of([0.5, 0.3125, 0.140625, 0.046875])
    params = SamplingParams(8, temperature=1.0, top_p=top_p, seed=3)
    assert {sample(logits, params, step) for step in range(400)} == kept


def test_top_p_agrees_with_sorting_everything():
    logits = np.random.default_rng(5).standard_normal(5000).astype(np.float32) * 3
    params = SamplingParams(8, temperature=0.7, top_p=0.9, seed=11)
    weights = np.exp((logits.astype(np.float64) - float(logits.max())) / 0.7)
    weights /= weights.sum()
    order = np.argsort(-weights, kind="stable")
    nucleus = set(order[: int((np.cumsum(weights[order]) < 0.9).sum()) + 1].tolist())
    assert {sample(logits, params, step) for step in range(300)} <= nucleus


def test_masked_tokens_are_never_drawn():
    logits = np.full(100, -np.inf, np.float32)
    logits[[3, 40]] = 0.0
    params = SamplingParams(8, temperature=5.0, seed=1)
    assert {sample(logits, params, step) for step in range(100)} == {3, 40}


def test_a_tiny_temperature_is_greedy():
    logits = np.array([0.0, 2.0, 1.0], np.float32)
    assert sample(logits, SamplingParams(8, temperature=1e-320), 0) == 1


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
def test_logits_must_be_numbers(value: float):
    with pytest.raises(SamplingError, match="not a finite number"):
        sample(np.full(4, value, np.float32), SamplingParams(8), 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"temperature": -0.5}, "temperature must be 0 or more"),
        ({"top_p": 0.0}, "top_p must be in"),
        ({"seed": -1}, "seed must be in"),
        ({"stop": ("",)}, "stop text must not be empty"),
    ],
)
def test_parameters_are_checked(changes: dict[str, object], message: str):
    arguments: dict[str, object] = {"max_tokens": 8, **changes}
    with pytest.raises(SamplingError, match=message):
        SamplingParams(**arguments)  # pyright: ignore[reportArgumentType]


def test_the_seed_of_an_ask_is_a_function_of_its_place():
    seed = ask_seed(0, "debate.loom:12:5", [1, 2], 0)
    assert seed == ask_seed(0, "debate.loom:12:5", (1, 2), 0)
    others = [
        ask_seed(1, "debate.loom:12:5", [1, 2], 0),
        ask_seed(0, "debate.loom:12:6", [1, 2], 0),
        ask_seed(0, "debate.loom:12:5", [12], 0),
        ask_seed(0, "debate.loom:12:5", [1, 2], 1),
    ]
    assert len({seed, *others}) == 5
    assert all(0 <= value < 1 << 64 for value in others)
    assert seed == 18151940966865780838
