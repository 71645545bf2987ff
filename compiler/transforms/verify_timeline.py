"""Check what a run must be able to rely on: requests, releases and launches fit together."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, StringAttr
from xdsl.ir import Block
from xdsl.passes import ModulePass
from xdsl.utils.exceptions import VerifyException

from tokenloom.compiler.analysis.context_uses import context_uses
from tokenloom.compiler.kernel_signatures import SIGNATURES
from tokenloom.ir.exec import AwaitOp, ReleaseOp, SubmitOp, WorkflowOp
from tokenloom.ir.exec_model import BufferOp, CopyOp, LaunchOp, ModelOp, WeightOp


@dataclass(frozen=True)
class VerifyTimeline(ModulePass):
    """Fail where the lowered program contradicts itself; change nothing.

    Of workflows: every request is waited for once, in its block; a context is released once, after
    the events of all requests that read it, and nothing reads it later; nothing is launched. Of
    models: every argument of a launch or copy is declared, of a known kernel, and none is missing.

    ```mlir
    exec.release %c : !kv.context<dense>
    %t = exec.submit %c for %a {…} : …
    ```
    fails with `%c is read after it is released`; a program without faults is left as it is.
    """

    name = "verify-timeline"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raise VerifyException for the first fault found."""
        for top in op.ops:
            if isinstance(top, ModelOp):
                _check_model(top)
            elif isinstance(top, WorkflowOp):
                for inner in top.walk():
                    for region in inner.regions:
                        for block in region.blocks:
                            _check_block(block)


def _check_block(block: Block) -> None:
    uses = context_uses(block)
    for index, op in enumerate(block.ops):
        if isinstance(op, LaunchOp | CopyOp):
            raise VerifyException(f"{op.name} in a workflow: the engine forms batches at run time")
        if isinstance(op, SubmitOp):
            waits = [u.operation for u in op.ticket.uses if isinstance(u.operation, AwaitOp)]
            if len(waits) != 1 or waits[0].parent is not block:
                raise VerifyException(
                    f"the request at {op.place.data} is waited for {len(waits)} times in its block"
                )
        if isinstance(op, ReleaseOp) and op.context in uses:
            _check_release(op, index, uses[op.context].last_index, set(uses[op.context].events))


def _check_release(op: ReleaseOp, index: int, last_index: int, events: set[object]) -> None:
    name = f"%{op.context.name_hint or 'context'}"
    others = [u.operation for u in op.context.uses if isinstance(u.operation, ReleaseOp)]
    if len(others) != 1:
        raise VerifyException(f"{name} is released {len(others)} times")
    if last_index > index:
        raise VerifyException(f"{name} is read after it is released")
    missing = events - set(op.after)
    if missing:
        raise VerifyException(
            f"{name} is released without waiting for {len(missing)} of the requests that read it"
        )


def _check_model(model: ModelOp) -> None:
    declared = {
        op.sym_name.data for op in model.body.block.ops if isinstance(op, BufferOp | WeightOp)
    }
    for op in model.body.block.ops:
        if isinstance(op, LaunchOp):
            _check_launch(op, declared)
        elif isinstance(op, CopyOp):
            for name in (op.source.data, op.target.data):
                if name not in declared:
                    raise VerifyException(f"a copy names {name!r}, which is not declared")


def _check_launch(op: LaunchOp, declared: set[str]) -> None:
    kernel = op.kernel.op.data
    signature = SIGNATURES.get(kernel)
    if signature is None:
        raise VerifyException(f"no kernel {kernel!r}; there are {', '.join(SIGNATURES)}")
    if len(op.arguments) != len(signature.arguments):
        raise VerifyException(
            f"{kernel} takes {len(signature.arguments)} arguments "
            f"({' '.join(signature.arguments)}), got {len(op.arguments)}"
        )
    for argument, wanted in zip(op.arguments, signature.arguments, strict=True):
        if isinstance(argument, IntegerAttr):
            continue
        assert isinstance(argument, StringAttr)
        scalar = wanted in signature.scalars
        if scalar != (argument.data in ("n", "first")):
            raise VerifyException(f"{kernel}: argument {wanted} cannot be {argument.data!r}")
        if not scalar and argument.data not in declared:
            raise VerifyException(f"{kernel} names {argument.data!r}, which is not declared")
