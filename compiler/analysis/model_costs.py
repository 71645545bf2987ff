"""Predicted times of one model on one machine, remembered."""

from __future__ import annotations

from functools import cache

from tokenloom.backends.cost import CostModel, ModelShape
from tokenloom.backends.machine import Machine
from tokenloom.models.config import ModelConfig

CONTEXT_STEP = 16
"""Contexts are rounded up to this many tokens: times change little, and fewer are computed."""


def model_shape(config: ModelConfig) -> ModelShape:
    """Return the sizes that the cost model asks for."""
    return ModelShape(
        hidden=config.hidden_size,
        layers=config.num_layers,
        heads=config.num_heads,
        kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        ffn=config.ffn_size,
        vocab=config.vocab_size,
        plain_ffn=config.plain_ffn_size,
    )


class ModelCosts:
    """Times in nanoseconds. Decode attention runs on `device` where the machine has it."""

    def __init__(self, machine: Machine, config: ModelConfig, device: str):
        self._cost = CostModel(machine)
        self._shape = model_shape(config)
        self._device = device if machine.has_device(device) else None
        self._prefill = cache(self._prefill_uncached)
        self._step = cache(self._step_uncached)

    def prefill_ns(self, tokens: int, cached: int) -> float:
        """Return the time to prefill `tokens` behind `cached` ones; nothing takes no time."""
        return self._prefill(tokens, _rounded(cached)) if tokens > 0 else 0.0

    def step_ns(self, batch: int, context: int) -> float:
        """Return the time of one decode step of `batch` requests at `context` tokens."""
        return self._step(batch, _rounded(context))

    def _prefill_uncached(self, tokens: int, cached: int) -> float:
        return self._cost.prefill_ns(self._shape, tokens, cached)

    def _step_uncached(self, batch: int, context: int) -> float:
        return self._cost.decode_ns(self._shape, batch, context, self._device)


def _rounded(context: int) -> int:
    return -(-context // CONTEXT_STEP) * CONTEXT_STEP
