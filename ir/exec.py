"""The `exec` dialect: launches, copies and requests on named devices.

Two kinds of function. A *model* (`exec.model`) is launches on static buffers, one program for an
engine step that holds decode rows and prefill rows. A *workflow* (`exec.workflow`) is requests:
submit, await, link, move, release, and host values; it never launches, since the engine forms
batches at run time. Value ops of `flow`, `flow.gather`, `flow.map` and `scf` stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import (
    I64,
    DenseArrayBase,
    FlatSymbolRefAttrConstr,
    IntegerAttr,
    SymbolNameConstraint,
    SymbolRefAttr,
)
from xdsl.ir import (
    Attribute,
    Dialect,
    ParametrizedAttribute,
    SSAValue,
    TypeAttribute,
)
from xdsl.irdl import (
    AnyAttr,
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_attr_definition,
    irdl_op_definition,
    lazy_traits_def,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.traits import (
    HasParent,
    IsolatedFromAbove,
    IsTerminator,
    Pure,
    SymbolOpInterface,
)
from xdsl.utils.exceptions import VerifyException

from tokenloom.ir.exec_model import MODEL_OPS, KernelAttr, RowSetAttr
from tokenloom.ir.kv import ContextType, EventType, RunType, SourceAttr, tier_of
from tokenloom.ir.text import TextAttr
from tokenloom.ir.types import AgentType


@irdl_attr_definition
class TicketType(ParametrizedAttribute, TypeAttribute):
    """A request that is under way: `!exec.ticket`."""

    name = "exec.ticket"


@irdl_op_definition
class WorkflowOp(IRDLOperation):
    """A workflow as requests. Properties as `flow.workflow`."""

    name = "exec.workflow"
    sym_name = prop_def(SymbolNameConstraint())
    inputs = prop_def(TextAttr)
    result = prop_def(TextAttr)
    body = region_def("single_block")
    traits = traits_def(SymbolOpInterface(), IsolatedFromAbove())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$sym_name $body attr-dict"

    def verify_(self) -> None:
        if not isinstance(self.body.block.last_op, ReturnOp):
            raise VerifyException(f"workflow @{self.sym_name.data} ends with exec.return")


@irdl_op_definition
class ReturnOp(IRDLOperation):
    """Give a workflow's results."""

    name = "exec.return"
    values = var_operand_def(AnyAttr())
    traits = lazy_traits_def(lambda: (IsTerminator(), HasParent(WorkflowOp), Pure()))
    assembly_format = "($values^ `:` type($values))? attr-dict"

    def __init__(self, *values: SSAValue):
        super().__init__(operands=[values])


@irdl_op_definition
class RootOp(IRDLOperation):
    """The empty context of a model."""

    name = "exec.root"
    model = prop_def(FlatSymbolRefAttrConstr)
    context = result_def(ContextType)
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$model attr-dict `:` type($context)"

    def __init__(self, model: str, kind: ContextType):
        super().__init__(properties={"model": SymbolRefAttr(model)}, result_types=[kind])


@irdl_op_definition
class ExtendOp(IRDLOperation):
    """A context followed by parts. The engine computes it with the first request that needs it."""

    name = "exec.extend"
    context = operand_def(ContextType)
    parts = var_operand_def(AnyAttr())
    source = prop_def(SourceAttr)
    decision = opt_prop_def(TextAttr)
    extended = result_def(ContextType)
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = (
        "$context `with` `(` $parts `:` type($parts) `)` $source attr-dict "
        "`:` type($context) `->` type($extended)"
    )


@irdl_op_definition
class WindowOp(IRDLOperation):
    """The context with its first turn and its last `turns` turns alone."""

    name = "exec.window"
    context = operand_def(ContextType)
    turns = prop_def(IntegerAttr[I64])
    window = result_def(ContextType)
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$context $turns attr-dict `:` type($context) `->` type($window)"


@irdl_op_definition
class SliceOp(IRDLOperation):
    """What a context has behind another that it begins with, as a run; computed when needed."""

    name = "exec.slice"
    context = operand_def(ContextType)
    base = operand_def(ContextType)
    run = result_def(RunType())
    assembly_format = "$context `behind` $base attr-dict `:` type($context) `,` type($base)"

    def __init__(self, context: SSAValue, base: SSAValue):
        super().__init__(operands=[context, base], result_types=[RunType()])


@irdl_op_definition
class LinkOp(IRDLOperation):
    """A context followed by a run computed elsewhere."""

    name = "exec.link"
    context = operand_def(ContextType)
    run = operand_def(RunType())
    linked = result_def(ContextType)
    assembly_format = "$context `,` $run attr-dict `:` type($context) `->` type($linked)"


@irdl_op_definition
class SubmitOp(IRDLOperation):
    """Hand a request to the engine: decode behind a context. Properties as `kv.decode`."""

    name = "exec.submit"
    context = operand_def(ContextType)
    agent = operand_def(AgentType)
    max_tokens = prop_def(IntegerAttr[I64])
    answer_type = prop_def(TextAttr)
    place = prop_def(TextAttr)
    options = opt_prop_def(TextAttr)
    close_tokens = prop_def(DenseArrayBase)
    priority = prop_def(IntegerAttr[I64])
    ticket = result_def(TicketType())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$context `for` $agent attr-dict `:` type($context) `,` type($agent)"


@irdl_op_definition
class AwaitOp(IRDLOperation):
    """Wait for a request: its answer, the next context, and the event of its end."""

    name = "exec.await"
    ticket = operand_def(TicketType())
    answer = result_def(AnyAttr())
    next = result_def(ContextType)
    done = result_def(EventType())
    assembly_format = "$ticket attr-dict `->` type($answer) `,` type($next)"

    def __init__(self, ticket: SSAValue, answer: Attribute, context: Attribute):
        super().__init__(operands=[ticket], result_types=[answer, context, EventType()])


@irdl_op_definition
class MoveOp(IRDLOperation):
    """Copy a context to another tier, after the events."""

    name = "exec.move"
    context = operand_def(ContextType)
    after = var_operand_def(EventType())
    moved = result_def(ContextType)
    done = result_def(EventType())
    assembly_format = (
        "$context (`after` `(` $after^ `)`)? attr-dict `:` type($context) `->` type($moved)"
    )

    def verify_(self) -> None:
        if tier_of(self.context) == tier_of(self.moved):
            raise VerifyException(
                f"exec.move must change the tier, both are {tier_of(self.context)}"
            )


@irdl_op_definition
class ReleaseOp(IRDLOperation):
    """Give a context's pages back once the events are done. Nothing may use it afterwards."""

    name = "exec.release"
    context = operand_def(AnyAttr())
    after = var_operand_def(EventType())
    assembly_format = "$context (`after` `(` $after^ `)`)? attr-dict `:` type($context)"

    def __init__(self, context: SSAValue, after: Sequence[SSAValue] = ()):
        super().__init__(operands=[context, after])


EXEC = Dialect(
    "exec",
    [
        *MODEL_OPS,
        AwaitOp,
        ExtendOp,
        LinkOp,
        MoveOp,
        ReleaseOp,
        ReturnOp,
        RootOp,
        SliceOp,
        SubmitOp,
        WindowOp,
        WorkflowOp,
    ],
    [KernelAttr, RowSetAttr, TicketType],
)
