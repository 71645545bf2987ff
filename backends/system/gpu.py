"""Time and energy of the parts of a layer on one processor of a system.

A roofline at stated efficiencies: the longer of computing and moving, both slowed by waves that
leave multiprocessors idle. Activations and norms have affine times. Source of all of it: AttAcc
simulator. It knows nothing of models.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tokenloom.backends.cost import DTYPE_BYTES
from tokenloom.backends.machine import Processor
from tokenloom.backends.system.description import System
from tokenloom.backends.system.tiles import Product, traffic, wave_utilization

SOFTMAX_FLOPS = 5
ACTIVATION_FLOPS = 8
NORM_FLOPS = 5
"""Operations an element (AttAcc simulator)."""


@dataclass(frozen=True)
class Cost:
    """Time of one device and energy of one device; `compute_bound`: computing took longer."""

    time_ns: float = 0.0
    energy_pj: float = 0.0
    compute_bound: bool = False

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.time_ns + other.time_ns, self.energy_pj + other.energy_pj)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.time_ns * times, self.energy_pj * times, self.compute_bound)


class Gpu:
    """Costs on `processor` with weights and activations of `dtype`."""

    def __init__(self, processor: Processor, system: System, dtype: str):
        self.element_bytes = DTYPE_BYTES[dtype]
        self.peak_flop_per_s = processor.peak_flop_per_s[dtype]
        self.bandwidth_bytes_per_s = processor.memory_bandwidth_bytes_per_s
        self._processor = processor
        self._system = system
        self.product = cache(self._product)

    def softmax(self, elements: int, blocks: int) -> Cost:
        """Return the cost of softmax over rows of `elements` in all, in `blocks` blocks."""
        busy = wave_utilization(blocks, self._system.chip)
        size_bytes = 2 * elements * self.element_bytes
        flops = SOFTMAX_FLOPS * elements
        compute_ns, memory_ns = self._roofline_ns(flops, size_bytes, busy)
        time_ns = max(compute_ns, memory_ns) + self._processor.launch_ns
        return Cost(time_ns, self._stream_pj(size_bytes, flops))

    def activation(self, elements: int, operands: int) -> Cost:
        """Return the cost of an activation of `operands` inputs over `elements` outputs."""
        kernels = self._system.elementwise
        size_bytes = (operands + 1) * elements * self.element_bytes
        time_ns = kernels.activation_floor_ns + kernels.activation_passes * self._pass_ns(
            size_bytes
        )
        flops = (ACTIVATION_FLOPS + operands - 1) * elements
        return Cost(time_ns + self._processor.launch_ns, self._stream_pj(size_bytes, flops))

    def norm(self, elements: int) -> Cost:
        """Return the cost of a norm with the addition before it: two inputs, one output."""
        kernels = self._system.elementwise
        size_bytes = 3 * elements * self.element_bytes
        time_ns = kernels.norm_floor_ns + kernels.norm_passes * self._pass_ns(size_bytes)
        flops = NORM_FLOPS * elements
        return Cost(time_ns + self._processor.launch_ns, self._stream_pj(size_bytes, flops))

    def all_reduce(self, elements: int) -> Cost:
        """Return the cost of adding up `elements` over all devices, as a ring."""
        devices, exchange = self._system.devices, self._system.exchange
        if devices == 1:
            return Cost()
        size_bytes = elements * self.element_bytes
        part = size_bytes / devices
        step_ns = max(
            exchange.step_ns + exchange.ns_per_byte * part,
            part / exchange.bandwidth_bytes_per_s * 1e9,
        )
        return Cost((devices - 1) * step_ns, size_bytes * self._system.energy.link_pj_per_byte)

    def _product(self, product: Product) -> Cost:
        """Return the cost of a product; remembered."""
        moved = traffic(product, self.element_bytes, self._system.chip)
        busy = moved.utilization
        compute_ns, memory_ns = self._roofline_ns(2.0 * product.macs, moved.memory_bytes, busy)
        energy = self._system.energy
        energy_pj = (
            moved.memory_bytes * energy.memory_pj_per_byte
            + moved.l2_bytes * energy.l2_pj_per_byte
            + moved.l1_bytes * energy.l1_pj_per_byte
            + product.macs * (3 * energy.register_pj + energy.mac_pj)
        )
        time_ns = max(compute_ns, memory_ns) + self._processor.launch_ns
        return Cost(time_ns, energy_pj, compute_ns > memory_ns)

    def _roofline_ns(self, flops: float, size_bytes: float, busy: float) -> tuple[float, float]:
        """Return the times of computing and of moving with `busy` of the multiprocessors."""
        compute = self.peak_flop_per_s * self._processor.compute_efficiency * busy
        memory = self.bandwidth_bytes_per_s * self._processor.memory_efficiency * busy
        return flops / compute * 1e9, size_bytes / memory * 1e9

    def _pass_ns(self, size_bytes: float) -> float:
        return size_bytes / self.bandwidth_bytes_per_s * 1e9

    def _stream_pj(self, size_bytes: float, flops: float) -> float:
        """Return the energy of bytes that pass every level once; two operations are a MAC."""
        energy = self._system.energy
        path = energy.memory_pj_per_byte + energy.l2_pj_per_byte + energy.l1_pj_per_byte
        return size_bytes * (path + energy.register_pj) + flops / 2 * energy.mac_pj
