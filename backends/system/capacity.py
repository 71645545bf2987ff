"""Whether a model and its requests fit the memory of a system, and how many requests would."""

from __future__ import annotations

from dataclasses import dataclass

from tokenloom.backends.cost import DTYPE_BYTES, ModelShape
from tokenloom.backends.device import DeviceError
from tokenloom.backends.machine import Machine


@dataclass(frozen=True)
class Capacity:
    """Bytes of a whole system; KV of a request at its mean and at its full length.

    `kv_memory_bytes` is where KV should lie: the stacks that compute, or whatever weights leave.
    """

    memory_bytes: int
    kv_memory_bytes: int
    weight_bytes: int
    mean_kv_bytes: int
    full_kv_bytes: int
    batch: int

    @property
    def requests_fit(self) -> int:
        """Requests that fit when they are at all stages of their answers, as in steady state."""
        return (self.memory_bytes - self.weight_bytes) // self.mean_kv_bytes

    @property
    def requests_fit_at_full_length(self) -> int:
        """Requests that fit when all reach their last token together."""
        return (self.memory_bytes - self.weight_bytes) // self.full_kv_bytes

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of a batch that fits, but not everywhere."""
        notes: list[str] = []
        if self.batch > self.requests_fit_at_full_length:
            notes.append(
                f"{self.batch} requests fit at mean length, {self.requests_fit_at_full_length} "
                "if all reach their last token together"
            )
        kv_bytes = self.batch * self.mean_kv_bytes
        if kv_bytes > self.kv_memory_bytes:
            notes.append(
                f"KV takes {_gib(kv_bytes)}, the stacks that compute hold "
                f"{_gib(self.kv_memory_bytes)}; its times are as if all of it lay there"
            )
        return tuple(notes)


def capacity(
    machine: Machine,
    shape: ModelShape,
    dtype: str,
    batch: int,
    prompt: int,
    output: int,
    near: bool,
) -> Capacity:
    """Return what fits, with KV in the stacks that compute where `near`.

    DeviceError: the weights, or `batch` requests of `prompt` and `output` tokens, do not fit.
    """
    devices = machine.system.devices if machine.system else 1
    tier = machine.processors[machine.compute_device].memory_tier
    tiers = {tier, "pim"} if near else {tier}
    sizes = {name: devices * machine.tiers[name].capacity_bytes for name in tiers}
    weight_bytes = _parameters(shape) * DTYPE_BYTES[dtype]
    token_bytes = shape.kv_bytes_per_token(dtype)
    found = Capacity(
        memory_bytes=sum(sizes.values()),
        kv_memory_bytes=sizes["pim"] if near else sizes[tier] - weight_bytes,
        weight_bytes=weight_bytes,
        mean_kv_bytes=token_bytes * (prompt + output // 2),
        full_kv_bytes=token_bytes * (prompt + output - 1),
        batch=batch,
    )
    _check(found, machine, dtype, prompt, output)
    return found


def _check(found: Capacity, machine: Machine, dtype: str, prompt: int, output: int) -> None:
    if found.weight_bytes > found.memory_bytes:
        raise DeviceError(
            f"machine {machine.name}: the weights take {_gib(found.weight_bytes)} as {dtype}, "
            f"its memory holds {_gib(found.memory_bytes)}"
        )
    if found.batch > found.requests_fit:
        raise DeviceError(
            f"machine {machine.name}: {found.batch} requests of {prompt} + {output} tokens take "
            f"{_gib(found.batch * found.mean_kv_bytes)} of KV at mean length, beside "
            f"{_gib(found.weight_bytes)} of weights in {_gib(found.memory_bytes)}; "
            f"{found.requests_fit} requests fit"
        )


def _parameters(shape: ModelShape) -> int:
    """Return the elements of all matrices, with two tables for the vocabulary."""
    widths = (2 * shape.heads + 2 * shape.kv_heads) * shape.head_dim
    mlp = 2 * shape.plain_ffn if shape.plain_ffn else 3 * shape.ffn
    return shape.hidden * (shape.layers * (widths + mlp) + 2 * shape.vocab)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:,.1f} GiB"
