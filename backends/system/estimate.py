"""How long a generated token takes on a described system, and what energy, by component.

Processors run projections, MLP and, without stacks that compute, attention; all devices take a part
of every layer. It sums what `layers` and `near` find, and knows no formula itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tokenloom.backends.cost import ModelShape
from tokenloom.backends.device import DeviceError
from tokenloom.backends.machine import Machine, MachineError
from tokenloom.backends.system.capacity import Capacity, capacity
from tokenloom.backends.system.description import System
from tokenloom.backends.system.gpu import Cost, Gpu
from tokenloom.backends.system.layers import Layer, Shard
from tokenloom.backends.system.near import (
    NearAttention,
    beside,
    shared,
    units_bandwidth_bytes_per_s,
)

MOST_LENGTHS = 64
"""Context lengths looked at between the first and the last token; their mean is that of all."""


@dataclass(frozen=True)
class Workload:
    """`batch` requests of `prompt` tokens that generate `output` tokens each, in `dtype`."""

    batch: int
    prompt: int
    output: int
    dtype: str

    def __post_init__(self) -> None:
        if min(self.batch, self.prompt) < 1 or self.output < 2:
            raise DeviceError(
                f"{self.batch} requests of {self.prompt} + {self.output} tokens: give at least one "
                "request, one token in and two out, the first of which comes with the prefill"
            )

    def lengths(self) -> list[int]:
        """Return context lengths, evenly from the second token generated to the last."""
        first, last = self.prompt + 1, self.prompt + self.output - 1
        count = min(MOST_LENGTHS, last - first + 1)
        return [first + round(step * (last - first) / max(1, count - 1)) for step in range(count)]


@dataclass(frozen=True)
class Estimate:
    """Mean over all tokens but the first: a step of the whole batch, by component.

    `fc` are projections and MLP, `other` activations and norms, `output` the last norm and the
    output projection. Energy is that of the whole system; `static` is only known for memories.
    """

    time_ns: Mapping[str, float]
    energy_pj: Mapping[str, float]
    prefill_ns: float
    batch: int
    capacity: Capacity

    @property
    def step_ns(self) -> float:
        """Time of a step, which gives each request a token."""
        return sum(self.time_ns.values())

    @property
    def tokens_per_s(self) -> float:
        """Tokens of the whole batch a second, without prefill."""
        return self.batch / self.step_ns * 1e9

    @property
    def token_energy_pj(self) -> float:
        """Energy of one token of one request."""
        return sum(self.energy_pj.values()) / self.batch


def configured(
    machine: Machine,
    *,
    devices: int | None = None,
    level: str | None = None,
    power_cap: bool | None = None,
    overlap: bool | None = None,
    share_feed_forward: bool | None = None,
) -> Machine:
    """Return the machine with some of its choices changed; None leaves one as it is.

    DeviceError: the machine has no such choice.
    """
    system, stack = _system(machine), machine.pim
    if devices is not None:
        system = replace(system, devices=devices)
    near = system.near_memory
    if near is not None:
        near = replace(
            near,
            overlap=near.overlap if overlap is None else overlap,
            share_feed_forward=(
                near.share_feed_forward if share_feed_forward is None else share_feed_forward
            ),
        )
    elif overlap or share_feed_forward:
        raise DeviceError(f"machine {machine.name} has no [system.near_memory] to share work with")
    if level is not None or power_cap is not None:
        if stack is None:
            raise DeviceError(f"machine {machine.name} has no stacks that compute")
        try:
            stack = stack.at(level, power_cap)
        except ValueError as error:
            raise DeviceError(f"machine {machine.name}: {error}") from None
    return replace(machine, system=replace(system, near_memory=near), pim=stack)


def estimate(
    machine: Machine,
    shape: ModelShape,
    workload: Workload,
    compat: Literal["attacc"] | None = None,
) -> Estimate:
    """Return the mean step of `workload` on `machine`; `compat` is that of `closed_form`.

    MachineError: no [system], or no peak for the dtype. DeviceError: the requests do not fit.
    """
    model = _Model(machine, shape, workload, compat)
    found = capacity(
        machine,
        shape,
        workload.dtype,
        workload.batch,
        workload.prompt,
        workload.output,
        model.near is not None,
    )
    steps = [model.step(length) for length in workload.lengths()]
    costs = {
        name: _total(step[name] for step in steps) * (shape.layers / len(steps))
        for name in steps[0]
    }
    costs["output"] = model.layer.logits(workload.batch)
    time_ns = {name: cost.time_ns for name, cost in costs.items()}
    devices = _system(machine).devices
    energy_pj = {name: cost.energy_pj * devices for name, cost in costs.items()}
    # A watt for a nanosecond is a thousand picojoules.
    energy_pj["static"] = _static_w(machine) * devices * sum(time_ns.values()) * 1e3
    return Estimate(time_ns, energy_pj, model.prefill_ns(), workload.batch, found)


class _Model:
    """The parts of one layer of a model on one device of a machine."""

    def __init__(
        self,
        machine: Machine,
        shape: ModelShape,
        workload: Workload,
        compat: Literal["attacc"] | None,
    ):
        self.system = _system(machine)
        self._shape, self._workload = shape, workload
        self._shard = Shard.of(shape, self.system.devices)
        processor = machine.processors[machine.compute_device]
        if workload.dtype not in processor.peak_flop_per_s:
            known = ", ".join(processor.peak_flop_per_s)
            key = f"processors.{machine.compute_device}.peak_flop_per_s.{workload.dtype}"
            raise MachineError(machine.name, key, f"missing; there are {known}")
        self._gpu = Gpu(processor, self.system, workload.dtype)
        self.layer = Layer(self._gpu, self._shard)
        self._linear = self.layer.linear(workload.batch)
        self.near: NearAttention | None = None
        if "pim" in machine.attention_devices and machine.pim is not None:
            self._stack = machine.pim
            self.near = NearAttention(machine, self._stack, self._shard, workload.dtype, compat)

    def step(self, length: int) -> dict[str, Cost]:
        """Return one layer's costs for a token of each request, the last at `length`."""
        linear, batch = self._linear, self._workload.batch
        projections, feed_forward = linear.qkv + linear.projection, _total(linear.feed_forward)
        shipping = Cost()
        if self.near is None:
            attention = self.layer.attention(batch, 1, length)
        else:
            attention = self.near.attention(batch, length)
            queries = self.near.shipping(batch, self._shard.qkv_width)
            shipping = queries + self.near.shipping(batch, self._shard.query_width)
            projections, shipping = self._beside(attention, projections, shipping)
            feed_forward = self._shared(linear.feed_forward)
        return {
            "fc": projections + feed_forward,
            "attention": attention,
            "communication": linear.exchange + shipping,
            "other": linear.elementwise,
        }

    def prefill_ns(self) -> float:
        """Return the time of the prompts of the whole batch; KV leaves behind the computing."""
        work, shard = self._workload, self._shard
        rows = work.batch * work.prompt
        linear = self.layer.linear(rows)
        parts = (
            linear.qkv,
            linear.projection,
            *linear.feed_forward,
            linear.exchange,
            linear.elementwise,
            self.layer.attention(work.batch, work.prompt, work.prompt),
        )
        layer_ns = sum(part.time_ns for part in parts)
        if self.near is not None:
            layer_ns = max(layer_ns, self.near.shipping(rows, shard.kv_width).time_ns)
        return self._shape.layers * layer_ns + self.layer.logits(work.batch).time_ns

    def _beside(self, attention: Cost, projections: Cost, shipping: Cost) -> tuple[Cost, Cost]:
        """Return what shows of projections and of queries and results on their way."""
        near, heads = self.system.near_memory, self._shard.heads
        if near is None or not near.overlap:
            return projections, beside(attention, [shipping], heads)[0]
        projections, shipping = beside(attention, [projections, shipping], heads)
        return projections, shipping

    def _shared(self, feed_forward: Sequence[Cost]) -> Cost:
        near = self.system.near_memory
        if near is None or not near.share_feed_forward:
            return _total(feed_forward)
        bandwidth = units_bandwidth_bytes_per_s(self._stack, near)
        return shared(feed_forward, self._gpu, bandwidth, self._workload.batch)


def _total(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost())


def _system(machine: Machine) -> System:
    if machine.system is None:
        raise MachineError(
            machine.name,
            "system",
            "missing, so a layer's times are unknown; machines with a GPU have one",
        )
    return machine.system


def _static_w(machine: Machine) -> float:
    """Return the standing power of one device's memories."""
    stack = machine.pim
    stacks_w = stack.stacks * stack.dies * stack.energy.static_w_per_die if stack else 0.0
    return _system(machine).energy.static_w + stacks_w
