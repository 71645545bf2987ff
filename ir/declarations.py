"""Declarations of the `flow` dialect: models, tools, agent classes and workflows."""

from __future__ import annotations

from xdsl.dialects.builtin import (
    I1,
    I64,
    ArrayAttr,
    FlatSymbolRefAttrConstr,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    SymbolNameConstraint,
)
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import SpacedOpaqueSyntaxAttribute, SSAValue
from xdsl.irdl import (
    AnyAttr,
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_attr_definition,
    irdl_op_definition,
    lazy_traits_def,
    opt_prop_def,
    prop_def,
    region_def,
    traits_def,
    var_operand_def,
)
from xdsl.traits import HasParent, IsolatedFromAbove, IsTerminator, Pure, SymbolOpInterface
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.str_enum import StrEnum

from tokenloom.ir.text import TextAttr


class Reuse(StrEnum):
    """Whether KV that was computed for a sibling may be taken over."""

    EXACT = "exact"
    LINKED = "linked"


@irdl_attr_definition
class ReuseAttr(EnumAttribute[Reuse], SpacedOpaqueSyntaxAttribute):
    """`#flow<reuse linked>`-style attribute of an agent class."""

    name = "flow.reuse"


@irdl_op_definition
class ModelOp(IRDLOperation):
    """A model that agents may use, by registry name or path.

    ```mlir
    flow.model @smol <"smollm2-135m-instruct">
    ```
    """

    name = "flow.model"
    sym_name = prop_def(SymbolNameConstraint())
    source = prop_def(TextAttr)
    dtype = opt_prop_def(StringAttr)
    adapter = opt_prop_def(TextAttr)
    traits = traits_def(SymbolOpInterface())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$sym_name $source attr-dict"


@irdl_op_definition
class ToolOp(IRDLOperation):
    """A tool: a Python callable (`impl`) or an argument list (`command`).

    `params` and `types` describe the arguments (types as answer-type JSON), `result` the value.
    `takes_ns` and `stages` are hints for the planner. Without `retries` there are none.
    """

    name = "flow.tool"
    sym_name = prop_def(SymbolNameConstraint())
    params = prop_def(ArrayAttr[StringAttr])
    types = prop_def(ArrayAttr[TextAttr])
    result = prop_def(TextAttr)
    impl = opt_prop_def(TextAttr)
    command = opt_prop_def(ArrayAttr[TextAttr])
    takes_ns = opt_prop_def(IntegerAttr[I64])
    stages = opt_prop_def(TextAttr)
    timeout_ns = prop_def(IntegerAttr[I64])
    retries = prop_def(IntegerAttr[I64])
    effect = opt_prop_def(IntegerAttr[I1])
    pure = opt_prop_def(IntegerAttr[I1])
    directory = opt_prop_def(TextAttr)
    traits = traits_def(SymbolOpInterface())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$sym_name attr-dict"

    def verify_(self) -> None:
        if (self.impl is None) == (self.command is None):
            raise VerifyException(f"tool @{self.sym_name.data} needs either impl or command")
        if len(self.params) != len(self.types):
            raise VerifyException(f"tool @{self.sym_name.data} has params without a type")


@irdl_op_definition
class AgentOp(IRDLOperation):
    """A class of agents. The body yields the parts of its system prompt, none if it has none.

    ```mlir
    flow.agent @Judge {
      %0 = flow.text <"You judge debates.">
      flow.yield %0 : !flow.text
    } {"model" = @smol, "params" = [], …}
    ```
    """

    name = "flow.agent"
    sym_name = prop_def(SymbolNameConstraint())
    model = prop_def(FlatSymbolRefAttrConstr)
    params = prop_def(ArrayAttr[StringAttr])
    reuse = prop_def(ReuseAttr)
    refresh = opt_prop_def(FloatAttr)
    importance = prop_def(IntegerAttr[I64])
    temperature = prop_def(FloatAttr)
    top_p = prop_def(FloatAttr)
    seed = opt_prop_def(IntegerAttr[I64])
    stop = prop_def(ArrayAttr[TextAttr])
    history = prop_def(IntegerAttr[I64])
    body = region_def("single_block")
    traits = traits_def(SymbolOpInterface(), IsolatedFromAbove())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$sym_name $body attr-dict"

    def verify_(self) -> None:
        """`history` is the number of turns kept; -1 keeps all."""
        if len(self.params) != len(self.body.block.args):
            raise VerifyException(f"agent @{self.sym_name.data}: params and body arguments differ")
        if not isinstance(self.body.block.last_op, YieldOp):
            raise VerifyException(f"agent @{self.sym_name.data}: the body ends with flow.yield")
        if self.history.value.data < -1:
            raise VerifyException(f"agent @{self.sym_name.data}: history is -1 or a turn count")


@irdl_op_definition
class WorkflowOp(IRDLOperation):
    """An entry point. Block arguments are the inputs; `flow.return` gives the results.

    `inputs` holds for each parameter `{"name", "type", "default"?}` as JSON, with `type` an answer
    type. The first result is the workflow's value; further ones are histories of agents that were
    passed in, and last a token if effects happen inside.
    """

    name = "flow.workflow"
    sym_name = prop_def(SymbolNameConstraint())
    inputs = prop_def(TextAttr)
    result = prop_def(TextAttr)
    body = region_def("single_block")
    traits = traits_def(SymbolOpInterface(), IsolatedFromAbove())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$sym_name $body attr-dict"

    def verify_(self) -> None:
        if not isinstance(self.body.block.last_op, ReturnOp):
            raise VerifyException(f"workflow @{self.sym_name.data}: the body ends with flow.return")


@irdl_op_definition
class ReturnOp(IRDLOperation):
    """Give a workflow's results."""

    name = "flow.return"
    values = var_operand_def(AnyAttr())
    traits = lazy_traits_def(lambda: (IsTerminator(), HasParent(WorkflowOp), Pure()))
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "($values^ `:` type($values))? attr-dict"

    def __init__(self, *values: SSAValue):
        super().__init__(operands=[values])


@irdl_op_definition
class YieldOp(IRDLOperation):
    """End the body of a `flow.agent`, `flow.gather` or `flow.map`."""

    name = "flow.yield"
    values = var_operand_def(AnyAttr())
    traits = traits_def(IsTerminator(), Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "($values^ `:` type($values))? attr-dict"

    def __init__(self, *values: SSAValue):
        super().__init__(operands=[values])


DECLARATION_OPS = [AgentOp, ModelOp, ReturnOp, ToolOp, WorkflowOp, YieldOp]
