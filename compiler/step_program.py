"""The program of one engine step, written launch by launch: buffers, weights, launches, copies.

It knows the arguments of kernels and how rows and KV pages lie, and nothing of devices' kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import (
    ArrayAttr,
    StringAttr,
    TensorType,
)
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.utils.exceptions import VerifyException

from tokenloom.compiler.analysis.lifetimes import RowBuffers, last_uses
from tokenloom.compiler.kernel_signatures import SIGNATURES
from tokenloom.compiler.options import PAGE_TOKENS
from tokenloom.ir import nn
from tokenloom.ir.exec_model import (
    BufferOp,
    CopyOp,
    KernelAttr,
    LaunchOp,
    RowSet,
    RowSetAttr,
    WeightOp,
)
from tokenloom.ir.text import TextAttr
from tokenloom.kernel_spec import KernelSpec, Mode

Size = int | str
INPUT_ROWS: dict[str, str] = {
    "tokens": "rows",
    "positions": "rows",
    "frame_positions": "rows",
    "row_requests": "rows",
    "slots": "rows",
    "logit_rows": "logit_rows",
    "table_offsets": "requests1",
    "pages": "table",
    "staged_pages": "table",
    "frame_starts": "table",
    "page_positions": "table",
    "page_lengths": "table",
}
"""What the engine fills each step, with the run-time size of each (`runtime.executable`)."""

STAGED_KEYS, STAGED_VALUES = "staged_keys", "staged_values"


class StepProgram:
    """Writes the ops of an `exec.model` for one `nn` function body.

    `compute` runs everything but append and decode attention, which run on `kv`, where the KV
    pools lie. Values of the body are named by the row buffers they lie in.
    """

    def __init__(self, body: Block, max_context: int, mode: Mode, compute: str, kv: str):
        self.max_context, self.compute, self.kv = max_context, compute, kv
        self.mode: Mode = mode
        self._last = last_uses(body)
        self._order = {op: index for index, op in enumerate(body.ops)}
        self._returned = body.last_op.operands[0] if body.last_op else None
        self._rows = RowBuffers()
        self._at: dict[SSAValue, str] = {}
        self._logit_values: set[SSAValue] = set()
        self._buffers: dict[str, BufferOp] = {}
        self._weights: dict[str, WeightOp] = {}
        self._kernels: dict[KernelSpec, KernelAttr] = {}
        self._steps: list[Operation] = []

    def ops(self) -> list[Operation]:
        """Return all ops: buffers, weights, then the steps in order."""
        for name, (rows, width) in self._rows.shapes.items():
            self._buffer(name, (rows, width), "float32", "temp", self.compute)
        return [*self._buffers.values(), *self._weights.values(), *self._steps]

    def end_of_op(self, op: Operation) -> None:
        """Free the buffers of the values that `op` used last."""
        index = self._order[op]
        dead = {v for v in op.operands if self._last[v] == index and v in self._at}
        kept = {self._at[result] for result in op.results if result in self._at}
        for name in {self._at[value] for value in dead} - kept:
            self._rows.give(name)

    def embed(self, op: nn.EmbedOp) -> None:
        """Look the token ids up."""
        vocab = self._vocab
        dims = {"vocab": vocab, "hidden": _width(op.result)}
        args = [self._input("tokens", self.compute), op.weight.data, self._place(op.result)]
        self._launch("embed", dims, args)

    @property
    def _vocab(self) -> int:
        assert self._returned is not None
        return _width(self._returned)

    def rms_norm(self, op: nn.RmsNormOp) -> None:
        """Normalize rows."""
        args = [self._at[op.x], op.weight.data, self._place(op.result, op.x)]
        self._launch(
            "rms_norm",
            {"hidden": _width(op.x)},
            args,
            rows=self._row_set(op.x),
            attrs={"eps": op.epsilon.value.data},
        )

    def linear(self, op: nn.LinearOp) -> None:
        """Multiply rows by a weight, and add a bias where there is one."""
        if op.format is not None and op.format.data != "dense":
            raise VerifyException(f"no kernel for a {op.format.data} weight ({op.weight.data})")
        dims = {"inputs": _width(op.x), "outputs": _width(op.result)}
        args = [self._at[op.x], op.weight.data]
        if op.bias is not None:
            args.append(self._stored(op.bias.data))
        args.append(self._place(op.result, op.x))
        kernel = "linear" if op.bias is None else "linear_bias"
        self._launch(kernel, dims, args, rows=self._row_set(op.x))

    def head_norm(self, op: nn.HeadNormOp) -> None:
        """Normalize the heads, in place."""
        name = self._in_place(op.qkv, op.result)
        args = [name, self._stored(op.q_weight.data), self._stored(op.k_weight.data)]
        self._launch("head_norm", _heads(op), args, attrs={"eps": op.epsilon.value.data})

    def append(self, op: nn.AppendOp) -> None:
        """Write new keys and values to the pools of the layer."""
        args = [self._on_kv(op.qkv)]
        args += [self._input(name, self.kv) for name in ("frame_positions", "slots")]
        args += [*self._rope(op, self.kv), *self._pools(op)]
        self._launch("kv_append", {**_heads(op), "page_tokens": PAGE_TOKENS}, args, device=self.kv)

    def attention(self, prefill: nn.AttentionOp, decode: nn.AttentionOp) -> None:
        """Attend twice: decode rows where the pools lie, prefill rows on the compute device."""
        out = self._place(prefill.result)
        if self.kv == self.compute:
            self._attend("decode", decode, self._at[prefill.qkv], self._pools(prefill), out)
            self._attend("prefill", prefill, self._at[prefill.qkv], self._pools(prefill), out)
            return
        away = self._buffer(
            f"attended@{self.kv}", ("rows", _width(prefill.result)), "float32", "temp", self.kv
        )
        self._attend("decode", decode, self._mirror(prefill.qkv), self._pools(prefill), away)
        self._copy(away, out, RowSet.DECODE)
        staged = self._staging(prefill)
        for pool, copy in zip(self._pools(prefill), staged, strict=True):
            self._copy(pool, copy, RowSet.PAGES)
        self._attend("prefill", prefill, self._at[prefill.qkv], staged, out)

    def _attend(
        self, phase: str, op: nn.AttentionOp, qkv: str, pools: Sequence[str], out: str
    ) -> None:
        device = self.kv if phase == "decode" else self.compute
        staged = phase == "prefill" and self.kv != self.compute
        names = ["positions", "row_requests", "table_offsets", "pages", "frame_starts",
                 "page_positions", "page_lengths"]  # fmt: skip
        names[3] = "staged_pages" if staged else "pages"
        args = [qkv, *(self._input(name, device) for name in names), *self._rope(op, device)]
        self._launch(
            f"attention_{phase}",
            {**_heads(op), "page_tokens": PAGE_TOKENS},
            [*args, *pools, out],
            device=device,
            rows=RowSet(phase),
            decision=op.decision,
        )

    def silu_mul(self, op: nn.SiluMulOp) -> None:
        """Apply the gated activation."""
        args = [self._at[op.gate_up], self._place(op.result)]
        self._launch("silu_mul", {"ffn": _width(op.result)}, args)

    def add(self, op: nn.AddOp) -> None:
        """Add, into the first operand's buffer."""
        name = self._in_place(op.x, op.result)
        self._launch("add", {"hidden": _width(op.x)}, [name, self._at[op.y]])

    def take_rows(self, op: nn.TakeRowsOp) -> None:
        """Keep the rows whose logits are wanted."""
        self._logit_values.add(op.result)
        wanted = self._input("logit_rows", self.compute)
        args = [self._at[op.x], wanted, self._place(op.result, op.result)]
        self._launch("take_rows", {"hidden": _width(op.x)}, args, rows=RowSet.LOGITS)

    def _row_set(self, value: SSAValue) -> RowSet:
        return RowSet.LOGITS if value in self._logit_values else RowSet.ALL

    def _place(self, result: SSAValue, source: SSAValue | None = None) -> str:
        """Return a buffer for `result`, with as many rows as `source` has."""
        logits = source is not None and source in self._logit_values
        if logits:
            self._logit_values.add(result)
        rows = "logit_rows" if logits else "rows"
        if result is self._returned:
            name = self._buffer("logits", (rows, _width(result)), "float32", "output", self.compute)
        else:
            name = self._rows.take((rows, _width(result)))
        self._at[result] = name
        return name

    def _in_place(self, source: SSAValue, result: SSAValue) -> str:
        """Let `result` take the buffer of `source`, which must not be read afterwards."""
        op = result.owner
        assert isinstance(op, Operation)
        if self._last[source] != self._order[op]:
            raise VerifyException(f"{op.name} writes in place over rows that are read again")
        self._at[result] = self._at[source]
        return self._at[source]

    def _on_kv(self, qkv: SSAValue) -> str:
        """Return the rows of `qkv` on the device of the pools, copied there if they are not."""
        if self.kv == self.compute:
            return self._at[qkv]
        name = self._mirror(qkv)
        self._copy(self._at[qkv], name, RowSet.ALL)
        return name

    def _mirror(self, qkv: SSAValue) -> str:
        return self._buffer(f"qkv@{self.kv}", ("rows", _width(qkv)), "float32", "temp", self.kv)

    def _pools(self, op: nn.AppendOp | nn.AttentionOp) -> list[str]:
        dtype = "float16" if self.kv == "pim" else "float32"
        shapes = _pool_shapes(op, "pages")
        return [
            self._buffer(f"{kind}.{op.layer.value.data}", shape, dtype, "state", self.kv)
            for kind, shape in zip(("keys", "values"), shapes, strict=True)
        ]

    def _staging(self, op: nn.AttentionOp) -> list[str]:
        shapes = _pool_shapes(op, "staged_pages")
        return [
            self._buffer(name, shape, "float32", "temp", self.compute)
            for name, shape in zip((STAGED_KEYS, STAGED_VALUES), shapes, strict=True)
        ]

    def _rope(self, op: nn.AppendOp | nn.AttentionOp, device: str) -> list[str]:
        shape = (self.max_context, op.head_dim.value.data // 2)
        return [
            self._buffer(self._named(name, device), shape, "float32", "state", device)
            for name in ("cos", "sin")
        ]

    def _input(self, name: str, device: str) -> str:
        declared = self._named(name, device)
        return self._buffer(declared, (INPUT_ROWS[name],), "int32", "input", device)

    def _named(self, name: str, device: str) -> str:
        return name if device == self.compute else f"{name}@{device}"

    def _buffer(self, name: str, shape: Sequence[Size], dtype: str, role: str, device: str) -> str:
        if name not in self._buffers:
            self._buffers[name] = BufferOp(name, shape, dtype, role, device)
        return name

    def _stored(self, weight: str) -> str:
        """Declare a weight that lies as stored."""
        self._weight(weight, None)
        return weight

    def _weight(self, name: str, kernel: KernelAttr | None) -> None:
        properties: dict[str, Attribute] = {
            "sym_name": StringAttr(name),
            "device": StringAttr(self.compute),
        }
        if kernel is not None:
            properties["kernel"] = kernel
        self._weights.setdefault(name, WeightOp.create(properties=properties))

    def _launch(
        self,
        kernel: str,
        dims: dict[str, int],
        args: Sequence[str],
        *,
        device: str | None = None,
        rows: RowSet = RowSet.ALL,
        attrs: dict[str, float] | None = None,
        decision: TextAttr | None = None,
    ) -> None:
        signature = SIGNATURES[kernel]
        spec = KernelSpec(
            kernel,
            tuple(sorted(dims.items())),
            tuple(sorted((attrs or {}).items())),
            device=device or self.compute,
            mode=self.mode,
        )
        attr = self._kernel(spec)
        if signature.weight:
            self._weight(args[signature.arguments.index(signature.weight)], attr)
        arguments = [StringAttr(name) for name in (*args, *signature.scalars)]
        properties: dict[str, Attribute] = {
            "kernel": attr,
            "rows": RowSetAttr(rows),
            "arguments": ArrayAttr(arguments),
        }
        if decision is not None:
            properties["decision"] = decision
        self._steps.append(LaunchOp.create(properties=properties))

    def _kernel(self, spec: KernelSpec) -> KernelAttr:
        if spec not in self._kernels:
            self._kernels[spec] = KernelAttr.of(spec)
        return self._kernels[spec]

    def _copy(self, source: str, target: str, rows: RowSet) -> None:
        self._steps.append(
            CopyOp.create(
                properties={
                    "source": StringAttr(source),
                    "target": StringAttr(target),
                    "rows": RowSetAttr(rows),
                }
            )
        )


def _width(value: SSAValue) -> int:
    return cast("TensorType[Attribute]", value.type).get_shape()[-1]


def _heads(op: nn.AppendOp | nn.AttentionOp | nn.HeadNormOp) -> dict[str, int]:
    return {
        "num_heads": op.num_heads.value.data,
        "num_kv_heads": op.num_kv_heads.value.data,
        "head_dim": op.head_dim.value.data,
    }


def _pool_shapes(
    op: nn.AppendOp | nn.AttentionOp, pages: str
) -> tuple[tuple[Size, ...], tuple[Size, ...]]:
    heads, dim = op.num_kv_heads.value.data, op.head_dim.value.data
    return (pages, heads, dim, PAGE_TOKENS), (pages, heads, PAGE_TOKENS, dim)
