"""Which TIR function computes which operation on the CPU.

It knows the operations' names and sizes; the functions are in the modules beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tokenloom.backends.kernels import (
    attention,
    elementwise,
    linear,
    linear_bf16,
    norm,
    pages,
    pim_append,
    pim_attention,
    pim_elementwise,
    pim_gemv,
    pim_record,
    pim_totals,
)
from tokenloom.backends.kernels.cpu import Cpu
from tokenloom.backends.kernels.packing import tile_for, uses_bfloat16
from tokenloom.backends.kernels.pim_plan import AttentionPlan
from tokenloom.backends.kernels.pim_shape import PimShape
from tokenloom.kernel_spec import KernelSpec

Make = Callable[[str, KernelSpec, Cpu], Any]


def _heads(spec: KernelSpec) -> tuple[int, int, int]:
    return spec.dim("num_heads"), spec.dim("num_kv_heads"), spec.dim("head_dim")


def _linear(name: str, spec: KernelSpec, cpu: Cpu) -> Any:
    family = linear_bf16 if uses_bfloat16(spec, cpu) else linear
    make = family.linear if spec.op == "linear" else family.linear_bias
    return make(name, spec.dim("inputs"), spec.dim("outputs"), tile_for(cpu))


def _attention(name: str, spec: KernelSpec, cpu: Cpu) -> Any:
    return attention.attention(name, *_heads(spec), spec.dim("page_tokens"), cpu.num_cores)


PIM_ELEMENTWISE = ("add", "mul", "relu")


def _pim_elementwise(operation: str, *, commands: bool) -> Make:
    if commands:
        return lambda name, s, _: pim_elementwise.elementwise_commands(name, operation, s)
    return lambda name, s, _: pim_elementwise.elementwise_values(name, operation, s)


def _pim_append(name: str, spec: KernelSpec) -> Any:
    return pim_append.append(name, PimShape.of(spec))


def _pim_attention(name: str, spec: KernelSpec) -> Any:
    return pim_attention.attention(name, AttentionPlan.of(spec))


def _values(make: Callable[[str, KernelSpec], Any]) -> Make:
    return lambda name, spec, _: pim_record.values(make(name, spec))


def _commands(make: Callable[[str, KernelSpec], Any]) -> Make:
    return lambda name, spec, _: pim_record.commands(make(name, spec))


def _totals(make: Callable[[str, KernelSpec], Any]) -> Make:
    return lambda name, spec, _: pim_totals.totals(make(name, spec), PimShape.of(spec))


FUNCTIONS: Mapping[str, Make] = {
    "embed": lambda name, s, _: elementwise.embed(name, s.dim("vocab"), s.dim("hidden")),
    "rms_norm": lambda name, s, _: norm.rms_norm(name, s.dim("hidden"), s.attr("eps")),
    "linear": _linear,
    "linear_bias": _linear,
    "head_norm": lambda name, s, _: norm.head_norm(name, *_heads(s), s.attr("eps")),
    "kv_append": lambda name, s, _: pages.kv_append(name, *_heads(s), s.dim("page_tokens")),
    "attention_prefill": _attention,
    "attention_decode": _attention,
    "silu_mul": lambda name, s, _: elementwise.silu_mul(name, s.dim("ffn")),
    "add": lambda name, s, _: elementwise.add(name, s.dim("hidden")),
    "take_rows": lambda name, s, _: elementwise.take_rows(name, s.dim("hidden")),
    "pim_append": _values(_pim_append),
    "pim_append_commands": _commands(_pim_append),
    "pim_append_totals": _totals(_pim_append),
    "pim_gemv": lambda name, s, _: pim_gemv.gemv_values(name, s),
    "pim_gemv_commands": lambda name, s, _: pim_gemv.gemv_commands(name, s),
    **{f"pim_{name}": _pim_elementwise(name, commands=False) for name in PIM_ELEMENTWISE},
    **{f"pim_{name}_commands": _pim_elementwise(name, commands=True) for name in PIM_ELEMENTWISE},
    "pim_attention": _values(_pim_attention),
    "pim_attention_commands": _commands(_pim_attention),
    "pim_attention_totals": _totals(_pim_attention),
}
"""The maker of each operation's function."""


def make_function(name: str, spec: KernelSpec, cpu: Cpu) -> Any:
    """Return the TIR function of `spec`, with the global symbol `name`."""
    return FUNCTIONS[spec.op](name, spec, cpu)
