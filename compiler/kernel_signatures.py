"""How kernels are called: the order of a launch's arguments, and which of them are weights.

The compiler's side of `backends.kernel_ops` (which it must not import); a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Signature:
    """One operation: its dimensions, constants, arguments in order, and prepared weight if any."""

    dims: tuple[str, ...]
    attrs: tuple[str, ...]
    arguments: tuple[str, ...]
    weight: str | None = None
    scalars: tuple[str, ...] = ("n",)


def _of(dims: str, arguments: str, attrs: str = "", scalars: str = "n") -> Signature:
    names = tuple(arguments.split())
    weight = "weight" if "weight" in names else None
    return Signature(
        tuple(dims.split()), tuple(attrs.split()), names, weight, tuple(scalars.split())
    )


_HEADS = "num_heads num_kv_heads head_dim"
_ATTENTION = _of(
    f"{_HEADS} page_tokens",
    "qkv positions row_requests table_offsets pages frame_starts page_positions page_lengths "
    "cos sin keys values out first n",
    scalars="first n",
)

SIGNATURES: Mapping[str, Signature] = {
    "embed": _of("vocab hidden", "tokens weight out n"),
    "rms_norm": _of("hidden", "x weight out n", attrs="eps"),
    "linear": _of("inputs outputs", "x weight out n"),
    "linear_bias": _of("inputs outputs", "x weight bias out n"),
    "head_norm": _of(_HEADS, "qkv q_norm k_norm n", attrs="eps"),
    "kv_append": _of(f"{_HEADS} page_tokens", "qkv frame_positions slots cos sin keys values n"),
    "attention_prefill": _ATTENTION,
    "attention_decode": _ATTENTION,
    "silu_mul": _of("ffn", "gate_up out n"),
    "add": _of("hidden", "x y n"),
    "take_rows": _of("hidden", "x rows out n"),
}
"""All operations by name."""
