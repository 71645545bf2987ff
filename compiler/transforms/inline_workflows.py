"""Put the body of a called workflow in the place of the call."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from xdsl.context import Context
from xdsl.dialects.builtin import CallSiteLoc, ModuleOp, StringAttr
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from tokenloom.compiler.diagnostics import CompileError, Note
from tokenloom.ir.declarations import ReturnOp, WorkflowOp
from tokenloom.ir.flow import AskOp, InvokeOp, TokenOp
from tokenloom.ir.text import TextAttr


@dataclass(frozen=True)
class InlineWorkflows(ModulePass):
    """Replace every `flow.invoke` by the workflow's body, and drop what is then never run.

    Each call has its own bare agents, as the language says, since their `flow.spawn` is copied
    too. The callee's order of effects starts from the caller's token. A private workflow (of an
    imported file, or one that takes agents) is no entry point and goes. Where an ask was copied
    more than once, `"ordinal"` in its options numbers the copies, so that their seeds differ.

    ```mlir
    flow.workflow @shout {
    ^0(%x : !flow.text):
      %0 = flow.concat (%x, %x : !flow.text, !flow.text)
      flow.return %0 : !flow.text
    } {"sym_visibility" = "private", …}
    …
      %y = flow.invoke @shout (%t : !flow.text) {…} -> !flow.text
    ```
    becomes
    ```mlir
      %y = flow.concat (%t, %t : !flow.text, !flow.text)
    ```

    Raises CompileError for a workflow that calls itself.
    """

    name = "inline-workflows"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Inline all calls of the module."""
        workflows = {w.sym_name.data: w for w in op.ops if isinstance(w, WorkflowOp)}
        inliner = _Inliner(workflows)
        for workflow in workflows.values():
            inliner.complete(workflow)
        for workflow in workflows.values():
            if workflow.attributes.get("sym_visibility") == StringAttr("private"):
                Rewriter.erase_op(workflow)
            else:
                _number_copies(workflow)


class _Inliner:
    """Inlines callees first, so that a body is copied when it is complete."""

    def __init__(self, workflows: dict[str, WorkflowOp]) -> None:
        self._workflows = workflows
        self._complete: set[WorkflowOp] = set()
        self._open: list[WorkflowOp] = []

    def complete(self, workflow: WorkflowOp) -> None:
        """Inline all calls in a workflow."""
        if workflow in self._complete:
            return
        self._open.append(workflow)
        for call in [op for op in workflow.walk() if isinstance(op, InvokeOp)]:
            callee = self._workflows[call.callee.root_reference.data]
            if callee in self._open:
                self._refuse(call, callee)
            self.complete(callee)
            _inline(call, callee)
        self._open.pop()
        self._complete.add(workflow)

    def _refuse(self, call: InvokeOp, callee: WorkflowOp) -> None:
        around = self._open[self._open.index(callee) :]
        chain = " calls ".join(f"`{op.sym_name.data}`" for op in [*around, callee])
        raise CompileError(
            f"workflow `{callee.sym_name.data}` calls itself",
            call.location,
            [Note(chain), Note("use `repeat` or `for`: a plan must be finite", kind="help")],
        )


def _inline(call: InvokeOp, callee: WorkflowOp) -> None:
    block = callee.body.block
    values: dict[SSAValue, SSAValue] = dict(zip(block.args, call.arguments, strict=False))
    results: list[SSAValue] = []
    for op in block.ops:
        if isinstance(op, ReturnOp):
            results = [values.get(value, value) for value in op.values]
        elif isinstance(op, TokenOp):
            values[op.token] = call.arguments[-1]
        else:
            _copy(op, call, values)
    for old, new in zip(call.results, results, strict=True):
        if new.name_hint is None:
            new.name_hint = old.name_hint
    Rewriter.replace_op(call, [], results)


def _copy(op: Operation, call: InvokeOp, values: dict[SSAValue, SSAValue]) -> None:
    """Copy an op before the call; its place is where it was written, seen from the call."""
    copy = op.clone(values)
    for inner in copy.walk():
        inner.location = CallSiteLoc(inner.location, call.location)
    block = call.parent
    assert block is not None
    block.insert_op_before(copy, call)


def _number_copies(workflow: WorkflowOp) -> None:
    seen: Counter[str] = Counter()
    for op in workflow.walk():
        if not isinstance(op, AskOp):
            continue
        ordinal = seen[op.place.data]
        seen[op.place.data] += 1
        if ordinal:
            options: dict[str, Any] = json.loads(op.options.data) if op.options else {}
            op.options = TextAttr(json.dumps({**options, "ordinal": ordinal}))
