"""Give the pages of contexts back as early as can be known."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, SSAValue
from xdsl.passes import ModulePass

from tokenloom.compiler.analysis.context_uses import context_uses
from tokenloom.ir.exec import ReleaseOp, RootOp, WorkflowOp


@dataclass(frozen=True)
class ReleaseContexts(ModulePass):
    """Release every context behind its last use in its block, once its requests are over.

    A context that is stored in a list, read inside a region or given on by a terminator stays:
    others may hold it longer, and the end of the workflow frees it. An empty context has no pages
    to give back.

    ```mlir
    %t = exec.submit %c for %a {…} : …
    %answer, %next, %done = exec.await %t -> !flow.text, !kv.context<dense>
    ```
    becomes
    ```mlir
    %t = exec.submit %c for %a {…} : …
    %answer, %next, %done = exec.await %t -> !flow.text, !kv.context<dense>
    exec.release %c after (%done) : !kv.context<dense>
    exec.release %next : !kv.context<dense>
    ```
    """

    name = "release-contexts"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Release in every block of every workflow."""
        for workflow in op.ops:
            if isinstance(workflow, WorkflowOp):
                for inner in list(workflow.walk()):
                    for region in inner.regions:
                        for block in region.blocks:
                            _release_in(block)


def _release_in(block: Block) -> None:
    ops = list(block.ops)
    for context, use in context_uses(block).items():
        if not use.escapes and not _needs_none(context):
            release = ReleaseOp(context, list(use.events))
            last = ops[use.last_index]
            release.location = last.location
            block.insert_op_after(release, last)


def _needs_none(context: SSAValue) -> bool:
    """Return whether the context has no pages of its own, or is released already."""
    if isinstance(context.owner, RootOp):
        return True
    return any(isinstance(use.operation, ReleaseOp) for use in context.uses)
