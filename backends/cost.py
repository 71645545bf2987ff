"""The cost model: how long a layer, an attention or a copy takes on a described machine.

Processors follow a roofline, compute memory a closed form in cycles. It takes plain numbers and
knows nothing of models, schedules or what is running beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import ceil
from typing import Literal

from tokenloom.backends.machine import Machine, Processor
from tokenloom.backends.pim.timing.closed_form import attention_cycles

Phase = Literal["prefill", "decode"]

DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder-only model that its cost depends on.

    `ffn` is the width of a gated MLP; `plain_ffn`, if not 0, that of the one of two matrices for
    which it stands in.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    plain_ffn: int = 0

    def kv_bytes_per_token(self, dtype: str) -> int:
        """Return the bytes that one token's keys and values take in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * DTYPE_BYTES[dtype]


@dataclass(frozen=True)
class AttentionCost:
    """Predicted time of one layer's attention by device, for one batch size and context length."""

    phase: Phase
    batch: int
    context: int
    time_ns: dict[str, float]

    @property
    def best(self) -> str:
        """The device with the least time; the first in the machine's order if equal."""
        return min(self.time_ns, key=self.time_ns.__getitem__)


@dataclass(frozen=True)
class ScheduleCost:
    """A way to order the commands of attention in a stack, and how long its units take.

    `closed_ns` is the closed form's prediction, `event_ns` the event model's where it was asked.
    """

    name: str
    closed_ns: float
    event_ns: float | None

    @property
    def time_ns(self) -> float:
        """The best prediction that there is."""
        return self.closed_ns if self.event_ns is None else self.event_ns


@dataclass(frozen=True)
class ScheduleChoice:
    """Schedules of one layer's attention in the stacks, the chosen one first, and why.

    Without `costs` the stacks' units cannot run attention; the reason says what they lack.
    """

    batch: int
    context: int
    costs: tuple[ScheduleCost, ...]
    reason: str


class CostModel:
    """Times on one machine, in nanoseconds.

    `dtype` is that of weights, activations and KV on processors, by default each processor's own;
    compute memory always holds float16. A device or tier that the machine lacks is a KeyError.
    """

    def __init__(self, machine: Machine, dtype: str | None = None):
        self.machine = machine
        self.dtype = dtype

    def linear_ns(
        self, device: str, rows: int, inputs: int, outputs: int, dtype: str | None = None
    ) -> float:
        """Return the time of `[rows, inputs] x [inputs, outputs]`: roofline plus one launch."""
        processor, dtype = self._processor(device, dtype)
        elements = rows * inputs + inputs * outputs + rows * outputs
        return _roofline_ns(
            processor, 2.0 * rows * inputs * outputs, elements * DTYPE_BYTES[dtype], dtype
        )

    def attention_ns(
        self,
        device: str,
        phase: Phase,
        batch: int,
        context: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        dtype: str | None = None,
    ) -> float:
        """Return the time of one layer's attention.

        `decode`: `batch` rows of as many requests, each over `context` tokens of its own.
        `prefill`: `batch` rows of one request, the last of which attends to `context` tokens.
        """
        if phase == "prefill":
            keys, kv_tokens = batch * (context - (batch - 1) / 2), context
        else:
            keys, kv_tokens = float(batch * context), batch * context
        if device == "pim":
            mean = max(1, round(keys / batch)) if batch else 0
            return self._pim_attention_ns(batch, mean, heads, kv_heads, head_dim)
        processor, dtype = self._processor(device, dtype)
        flops = 4.0 * heads * head_dim * keys
        elements = 2 * kv_tokens * kv_heads * head_dim + 2 * batch * heads * head_dim
        return _roofline_ns(processor, flops, elements * DTYPE_BYTES[dtype], dtype)

    def prefill_ns(
        self, shape: ModelShape, tokens: int, context: int = 0, attention_device: str | None = None
    ) -> float:
        """Return the time to prefill `tokens` of one request behind `context` cached ones."""
        attention = self._attention(shape, "prefill", tokens, context + tokens, attention_device)
        return self._model_ns(shape, tokens, attention, logits=1)

    def decode_ns(
        self, shape: ModelShape, batch: int, context: int, attention_device: str | None = None
    ) -> float:
        """Return the time of one step: a token for each of `batch` requests at `context` tokens."""
        attention = self._attention(shape, "decode", batch, context, attention_device)
        return self._model_ns(shape, batch, attention, logits=batch)

    def copy_ns(self, from_tier: str, to_tier: str, size_bytes: float) -> float:
        """Return the time to copy between two tiers on the quickest way over the machine's links.

        Within a tier the bytes are read and written. KeyError: there is no way.
        """
        if from_tier == to_tier:
            return 2 * size_bytes / self.machine.tiers[from_tier].bandwidth_bytes_per_s * 1e9
        queue, done = [(0.0, from_tier)], set[str]()
        while queue:
            time_ns, tier = heappop(queue)
            if tier == to_tier:
                return time_ns
            done.add(tier)
            for link in self.machine.links:
                other = link.tiers[link.tiers[0] == tier]
                if tier in link.tiers and other not in done:
                    hop_ns = link.latency_ns + size_bytes / link.bandwidth_bytes_per_s * 1e9
                    heappush(queue, (time_ns + hop_ns, other))
        raise KeyError(f"machine {self.machine.name} has no way from {from_tier} to {to_tier}")

    def attention_table(
        self, shape: ModelShape, phase: Phase, batches: Sequence[int], contexts: Sequence[int]
    ) -> list[AttentionCost]:
        """Return the cost of one layer's attention on every device that can run it."""
        return [
            AttentionCost(
                phase,
                batch,
                context,
                {
                    device: self._attention(shape, phase, batch, context, device)
                    for device in self.machine.attention_devices
                },
            )
            for batch in batches
            for context in contexts
        ]

    def pim_attention_schedules(
        self, shape: ModelShape, batch: int, context: int, refereed: int = 0
    ) -> ScheduleChoice:
        """Return the quickest schedules for one layer's decode attention in the machine's stacks.

        The best `refereed` by the closed form are timed command by command; the streams for that
        are compiled. KeyError: the machine has no stacks. DeviceError: a stream cannot be compiled.
        """
        from tokenloom.backends.pim.operations.search import runs_attention, search_attention

        stack = self.machine.pim
        if stack is None:
            raise KeyError(f"machine {self.machine.name} has no pim")
        lacking = runs_attention(stack, shape.head_dim, shape.heads // shape.kv_heads)
        if lacking:
            return ScheduleChoice(batch, context, (), lacking)
        heads = ceil(batch * shape.kv_heads / stack.stacks) * (shape.heads // shape.kv_heads)
        shared, cycle_ns = shape.heads // shape.kv_heads, stack.timing.cycle_ns
        found = search_attention(stack, heads, context, shape.head_dim, shared, refereed)
        costs = [
            ScheduleCost(
                scored.schedule.label,
                scored.closed_cycles * cycle_ns,
                None if scored.event_cycles is None else scored.event_cycles * cycle_ns,
            )
            for scored in (found.chosen, *found.runners_up)
        ]
        return ScheduleChoice(batch, context, tuple(costs), found.reason)

    def _attention(
        self, shape: ModelShape, phase: Phase, batch: int, context: int, device: str | None
    ) -> float:
        device = device or self.machine.compute_device
        heads = (shape.heads, shape.kv_heads, shape.head_dim)
        return self.attention_ns(device, phase, batch, context, *heads)

    def _model_ns(self, shape: ModelShape, rows: int, attention_ns: float, logits: int) -> float:
        """Return the time of all layers and of the output projection of `logits` rows."""
        device, width = self.machine.compute_device, shape.heads * shape.head_dim
        qkv = width + 2 * shape.kv_heads * shape.head_dim
        layer_ns = (
            self.linear_ns(device, rows, shape.hidden, qkv)
            + self.linear_ns(device, rows, width, shape.hidden)
            + self.linear_ns(device, rows, shape.hidden, 2 * shape.ffn)
            + self.linear_ns(device, rows, shape.ffn, shape.hidden)
            + 4 * self._elementwise_ns(device, 2 * rows * shape.hidden)
            + self._elementwise_ns(device, 3 * rows * shape.ffn)
            + self._elementwise_ns(device, 2 * rows * qkv)
            + attention_ns
        )
        ends_ns = 2 * self._elementwise_ns(device, 2 * rows * shape.hidden)
        head_ns = self.linear_ns(device, logits, shape.hidden, shape.vocab)
        return shape.layers * layer_ns + ends_ns + head_ns

    def _elementwise_ns(self, device: str, elements: int) -> float:
        processor, dtype = self._processor(device, None)
        return _roofline_ns(processor, 0.0, elements * DTYPE_BYTES[dtype], dtype)

    def _processor(self, device: str, dtype: str | None) -> tuple[Processor, str]:
        processor = self.machine.processors[device]
        return processor, dtype or self.dtype or processor.default_dtype

    def _pim_attention_ns(
        self, rows: int, context: int, heads: int, kv_heads: int, head_dim: int
    ) -> float:
        """Return cycles in the banks, a launch, and the queries' way in and the results' way out.

        A KV head occupies one channel, or `stripe_tokens` of it do; the heads that share its KV are
        streamed over it together.
        """
        stack = self.machine.pim
        if stack is None:
            raise KeyError(f"machine {self.machine.name} has no pim")
        channels = stack.stacks * stack.channels
        stripe = stack.stripe_tokens or max(context, 1)
        shares = max(1, min(channels, ceil(context / stripe)))
        per_kv = heads // kv_heads
        queries = ceil(rows * kv_heads * shares / stack.stacks) * per_kv
        cycles = attention_cycles(
            stack, queries, ceil(context / shares), head_dim, heads_per_kv=per_kv
        )
        tier = self.machine.processors[self.machine.compute_device].memory_tier
        row_bytes = rows * head_dim * DTYPE_BYTES["float16"]
        moved_ns = self.copy_ns(tier, "pim", row_bytes * (heads + 2 * kv_heads))
        moved_ns += self.copy_ns("pim", tier, row_bytes * heads)
        return stack.launch_ns + cycles * stack.timing.cycle_ns + moved_ns


def _roofline_ns(processor: Processor, flops: float, size_bytes: float, dtype: str) -> float:
    """Return the longer of computing and moving, at the efficiencies stated, plus one launch."""
    compute = flops / (processor.peak_flop_per_s[dtype] * processor.compute_efficiency)
    bandwidth = processor.memory_bandwidth_bytes_per_s * processor.memory_efficiency
    return max(compute, size_bytes / bandwidth) * 1e9 + processor.launch_ns
