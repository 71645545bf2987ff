"""Lower workflows to requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from xdsl.context import Context
from xdsl.dialects.builtin import I64, IntegerAttr, ModuleOp, i64
from xdsl.ir import Attribute, Operation
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter
from xdsl.utils.exceptions import VerifyException

from tokenloom.ir import declarations, exec, kv

_NO_PRIORITY: IntegerAttr[I64] = IntegerAttr(0, i64)


@dataclass(frozen=True)
class LowerKvToExec(ModulePass):
    """Replace workflows of contexts by workflows of requests.

    A decode becomes a request and the wait for it. Since every value is a future, the wait holds
    nothing up but what reads the answer or the next context.

    ```mlir
    flow.workflow @main {
      %c = kv.extend %h with (%p : !flow.segment) : … -> …
      %answer, %next = kv.decode %c for %a {…} : … -> !flow.text, !kv.context<dense>
      flow.return %answer : !flow.text
    } {…}
    ```
    becomes
    ```mlir
    exec.workflow @main {
      %c = exec.extend %h with (%p : !flow.segment) #exec<source prefix> : … -> …
      %t = exec.submit %c for %a {…} : …
      %answer, %next, %done = exec.await %t -> !flow.text, !kv.context<dense>
      exec.return %answer : !flow.text
    } {…}
    ```
    """

    name = "lower-kv-to-exec"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Lower every workflow of the module."""
        for workflow in [w for w in op.ops if isinstance(w, declarations.WorkflowOp)]:
            for inner in list(workflow.walk()):
                if inner is not workflow:
                    _lower(inner)
            lowered = exec.WorkflowOp.create(
                properties=workflow.properties, regions=[workflow.detach_region(0)]
            )
            _replace(workflow, [lowered])


def _lower(op: Operation) -> None:
    handler = _HANDLERS.get(type(op))
    if handler is not None:
        _replace(op, handler(op))
    elif op.name.startswith("kv."):
        raise VerifyException(f"{op.name} has no form in exec")


def _renamed(kind: type[Operation], *dropped: str) -> Callable[[Operation], list[Operation]]:
    """Return a handler that makes an equal op of `kind`, without the properties `dropped`."""

    def handler(op: Operation) -> list[Operation]:
        properties = {n: value for n, value in op.properties.items() if n not in dropped}
        made = kind.create(
            operands=list(op.operands), properties=properties, result_types=op.result_types
        )
        return [made]

    return handler


def _extend(op: Operation) -> list[Operation]:
    extend = cast("kv.ExtendOp", op)
    properties: dict[str, Attribute] = {
        "source": kv.SourceAttr(kv.Source.DENSE),
        **extend.properties,
    }
    made = exec.ExtendOp.create(
        operands=list(op.operands), properties=properties, result_types=op.result_types
    )
    return [made]


def _decode(op: Operation) -> list[Operation]:
    decode = cast("kv.DecodeOp", op)
    properties = {n: value for n, value in decode.properties.items() if n != "slack_ns"}
    properties.setdefault("priority", _NO_PRIORITY)
    submit = exec.SubmitOp.create(
        operands=list(op.operands), properties=properties, result_types=[exec.TicketType()]
    )
    submit.ticket.name_hint = "ticket"
    wait = exec.AwaitOp(submit.ticket, decode.answer.type, decode.next.type)
    wait.done.name_hint = "done"
    return [submit, wait]


_HANDLERS: dict[type[Operation], Callable[[Operation], list[Operation]]] = {
    declarations.ReturnOp: _renamed(exec.ReturnOp),
    kv.RootOp: _renamed(exec.RootOp),
    kv.WindowOp: _renamed(exec.WindowOp),
    kv.SliceOp: _renamed(exec.SliceOp),
    kv.LinkOp: _renamed(exec.LinkOp, "decision"),
    kv.MoveOp: _renamed(exec.MoveOp),
    kv.DropOp: _renamed(exec.ReleaseOp),
    kv.ExtendOp: _extend,
    kv.DecodeOp: _decode,
}


def _replace(op: Operation, new: list[Operation]) -> None:
    """Replace `op` by `new`; its results by the first results of the last of them."""
    for made in new:
        made.location = op.location
    results = new[-1].results[: len(op.results)]
    for old, value in zip(op.results, results, strict=True):
        value.name_hint = old.name_hint
    Rewriter.replace_op(op, new, results)
