"""The choice of the next token: deterministic in the logits, the seed and the token's ordinal.

It knows nothing of batches: the same logits give the same token whatever was computed beside them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


class SamplingError(Exception):
    """A sampling parameter is out of range, or the logits are not numbers."""


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are chosen and when to stop.

    `max_tokens` counts generated tokens. `temperature` 0 is greedy: the most likely token, and of
    equal ones the lowest id. `top_p` keeps the fewest tokens whose probabilities reach it. `seed`
    is below 2**128. Generation ends before any of the texts in `stop`.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise SamplingError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not 0.0 <= self.temperature < float("inf"):
            raise SamplingError(f"temperature must be 0 or more, got {self.temperature}")
        if not 0.0 < self.top_p <= 1.0:
            raise SamplingError(f"top_p must be in (0, 1], got {self.top_p}")
        if not 0 <= self.seed < 1 << 128:
            raise SamplingError(f"seed must be in [0, 2**128), got {self.seed}")
        if "" in self.stop:
            raise SamplingError("a stop text must not be empty")


def sample(logits: FloatArray, params: SamplingParams, step: int) -> int:
    """Return the id of token number `step` of an answer, given its logits [vocab].

    Masked tokens have the logit -inf. The random number is that of the counter-based generator
    Philox (Salmon et al. 2011) at (seed, step). Raises SamplingError where no logit is finite.
    """
    best = int(logits.argmax())
    highest = float(logits[best])
    if not math.isfinite(highest):
        raise SamplingError(f"the largest of the logits is {highest}, not a finite number")
    if params.temperature == 0.0:
        return best
    with np.errstate(over="ignore"):  # a temperature near 0 sends all but the best to -inf
        scores = (logits.astype(np.float64) - highest) / params.temperature
    weights = np.exp(scores)
    weights /= weights.sum()
    ids = _nucleus(weights, params.top_p) if params.top_p < 1.0 else np.flatnonzero(weights)
    bounds = np.cumsum(weights[ids])
    index = int(np.count_nonzero(bounds <= _uniform(params.seed, step) * bounds[-1]))
    return int(ids[min(index, len(ids) - 1)])


def _nucleus(weights: NDArray[np.float64], top_p: float) -> NDArray[np.intp]:
    """Return the ids of the fewest tokens that reach `top_p`, most likely first."""
    # What is rarer than this is outside together: sorting the rest is enough, and much faster.
    candidates = np.flatnonzero(weights >= (1.0 - top_p) / len(weights))
    order = candidates[np.argsort(-weights[candidates], kind="stable")]
    count = int(np.count_nonzero(np.cumsum(weights[order]) < top_p)) + 1
    return order[:count]


def _uniform(seed: int, step: int) -> float:
    return float(np.random.Generator(np.random.Philox(key=seed, counter=step)).random())


def ask_seed(run_seed: int, place: str, indices: Sequence[int], ordinal: int) -> int:
    """Return the seed of an ask, below 2**64.

    It is a hash of the run's seed, the ask's place in the source, the indices of the iterations
    around it and its ordinal there: it does not depend on passes, batching or timing.
    """
    text = json.dumps([run_seed, place, list(indices), ordinal], separators=(",", ":"))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
