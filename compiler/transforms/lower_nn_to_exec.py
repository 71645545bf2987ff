"""Lower what models compute to launches on buffers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, StringAttr, i64
from xdsl.ir import Block, Operation, Region
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter
from xdsl.utils.exceptions import VerifyException

from tokenloom.compiler.context import compile_context
from tokenloom.compiler.options import PAGE_TOKENS
from tokenloom.compiler.step_program import StepProgram
from tokenloom.compiler.transforms.import_model import function_name
from tokenloom.ir import nn
from tokenloom.ir.declarations import ModelOp
from tokenloom.ir.exec_model import ModelOp as ExecModelOp
from tokenloom.kernel_spec import MODES, Mode


@dataclass(frozen=True)
class LowerNnToExec(ModulePass):
    """Make one `exec.model` of a model's two functions; it takes the symbol of the `flow.model`.

    One engine step holds decode rows and prefill rows in the same buffers, so what works on each
    row alone is launched once for both, and attention once for each. Buffers are used again when
    what they hold is dead; the sum of a residual goes into the first operand's buffer. Where decode
    attention is placed on another device than the rest, the KV pools lie there, as float16, and
    prefill attention reads the pages it needs out of a staging pool.

    ```mlir
    flow.model @smol <"tiny">
    nn.function @smol_prefill prefill {…}
    nn.function @smol_decode decode {…}
    ```
    becomes
    ```mlir
    exec.model @smol {
      exec.buffer "tokens" ["rows"] "int32" "input" on "host"
      …
      exec.weight "embed" on "host" for #exec.kernel<"embed", …>
      …
      exec.launch #exec.kernel<"embed", …> #exec<rows all> ["tokens", "embed", "temp.0", "n"]
      …
    } {…}
    ```
    """

    name = "lower-nn-to-exec"
    mode: str = "fast"
    max_rows: int = 512

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Lower every model that has functions."""
        functions = {f.sym_name.data: f for f in op.ops if isinstance(f, nn.FunctionOp)}
        for declared in [m for m in op.ops if isinstance(m, ModelOp)]:
            names = [function_name(declared.sym_name.data, phase) for phase in nn.Phase]
            if not all(name in functions for name in names):
                continue
            pair = [functions[name] for name in names]
            digest = compile_context(ctx).model(declared.source.data).digest
            model = self._lower(declared, pair[0], pair[1], digest)
            Rewriter.replace_op(declared, model)
            for function in pair:
                Rewriter.erase_op(function)

    def _lower(
        self, declared: ModelOp, prefill: nn.FunctionOp, decode: nn.FunctionOp, digest: str
    ) -> ExecModelOp:
        if self.mode not in MODES:
            raise VerifyException(f"lower-nn-to-exec: no mode {self.mode!r}")
        mode: Mode = "exact" if self.mode == "exact" else "fast"
        program = _Walk(prefill, decode, mode).program
        model = ExecModelOp.create(
            properties={
                "sym_name": declared.sym_name,
                "source": declared.source,
                "config": prefill.config,
                "digest": StringAttr(digest),
                "page_tokens": IntegerAttr(PAGE_TOKENS, i64),
                "max_rows": IntegerAttr(self.max_rows, i64),
            },
            regions=[Region(Block(program.ops()))],
        )
        for op in model.walk():
            op.location = declared.location
        return model


class _Walk:
    """Go through both functions side by side and write the step program."""

    def __init__(self, prefill: nn.FunctionOp, decode: nn.FunctionOp, mode: Mode):
        ops = list(prefill.body.block.ops)
        twins = list(decode.body.block.ops)
        if [_identity(op) for op in ops] != [_identity(op) for op in twins]:
            raise VerifyException(
                f"@{prefill.sym_name.data} and @{decode.sym_name.data} compute different things; "
                "a step program needs them equal but for placement"
            )
        max_context = int(json.loads(prefill.config.data)["max_context"])
        self.program = StepProgram(prefill.body.block, max_context, mode, *_devices(ops, twins))
        handlers: dict[type[Operation], Callable[..., None]] = {
            nn.EmbedOp: self.program.embed,
            nn.RmsNormOp: self.program.rms_norm,
            nn.LinearOp: self.program.linear,
            nn.HeadNormOp: self.program.head_norm,
            nn.AppendOp: self.program.append,
            nn.SiluMulOp: self.program.silu_mul,
            nn.AddOp: self.program.add,
            nn.TakeRowsOp: self.program.take_rows,
        }
        for op, twin in zip(ops, twins, strict=True):
            if isinstance(op, nn.ReturnOp):
                continue
            if isinstance(op, nn.AttentionOp):
                assert isinstance(twin, nn.AttentionOp)
                self.program.attention(op, twin)
            else:
                handlers[type(op)](op)
            self.program.end_of_op(op)


def _identity(op: Operation) -> tuple[object, ...]:
    properties = {
        name: value
        for name, value in op.properties.items()
        if name not in ("placement", "decision")
    }
    return op.name, properties, tuple(op.result_types)


def _devices(ops: list[Operation], twins: list[Operation]) -> tuple[str, str]:
    """Return the device of prefill and the linear layers, and that of decode and the KV pages."""
    found: list[str] = []
    for side in (ops, twins):
        attention = [op for op in side if isinstance(op, nn.AttentionOp)]
        places = {op.placement.data.value if op.placement else "host" for op in attention}
        if len(places) != 1:
            raise VerifyException(f"attention of one phase is placed on {sorted(places)}")
        found.append(places.pop())
    return found[0], found[1]
