"""The `flow` dialect: what agents say to each other, before anything is known of KV or devices.

An agent is an immutable value (its class and arguments); its history is a value of its own that
each ask takes and returns. So order, forks and sharing are data flow, and CSE may merge equal
agents. Control flow is `scf`; `flow.gather` and `flow.map` are the parallel forms.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import (
    I1,
    I64,
    DenseArrayBase,
    FlatSymbolRefAttrConstr,
    IntegerAttr,
    StringAttr,
    SymbolRefAttr,
    i1,
    i32,
    i64,
)
from xdsl.ir import Attribute, Dialect, SSAValue
from xdsl.irdl import (
    AnyAttr,
    AttrSizedResultSegments,
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    opt_region_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from tokenloom.ir.declarations import DECLARATION_OPS, ReuseAttr, YieldOp
from tokenloom.ir.text import TextAttr
from tokenloom.ir.types import (
    AgentType,
    HistoryType,
    ListType,
    NoneType,
    OptionalType,
    RecordType,
    SegmentType,
    TextType,
    TokenType,
)
from tokenloom.ir.values import VALUE_OPS, BinaryAttr, UnaryAttr


@irdl_op_definition
class SpawnOp(IRDLOperation):
    """An agent of a class: who it is, not what it remembers."""

    name = "flow.spawn"
    callee = prop_def(FlatSymbolRefAttrConstr)
    arguments = var_operand_def(AnyAttr())
    agent = result_def(AgentType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = (
        "$callee (`(` $arguments^ `:` type($arguments) `)`)? attr-dict `:` type($agent)"
    )

    def __init__(self, callee: str, arguments: Sequence[SSAValue]):
        super().__init__(
            operands=[arguments],
            properties={"callee": SymbolRefAttr(callee)},
            result_types=[AgentType.of(callee)],
        )


@irdl_op_definition
class ParamOp(IRDLOperation):
    """An argument that an agent was made with."""

    name = "flow.param"
    agent = operand_def(AgentType)
    param = prop_def(StringAttr)
    result = result_def(AnyAttr())
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$agent $param attr-dict `:` type($agent) `->` type($result)"

    def __init__(self, agent: SSAValue, param: str, kind: Attribute):
        super().__init__(
            operands=[agent], properties={"param": StringAttr(param)}, result_types=[kind]
        )


@irdl_op_definition
class HistoryOp(IRDLOperation):
    """The history of an agent that has not been asked yet: its system prompt."""

    name = "flow.history"
    agent = operand_def(AgentType)
    history = result_def(HistoryType())
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$agent attr-dict `:` type($agent)"

    def __init__(self, agent: SSAValue):
        super().__init__(operands=[agent], result_types=[HistoryType()])


@irdl_op_definition
class SegmentOp(IRDLOperation):
    """A fixed piece of a prompt with its token ids; `marker` if the chat template wrote it.

    ```mlir
    %0 = flow.segment <"Who won?"> [9342, 1604, 47]
    ```
    """

    name = "flow.segment"
    text = prop_def(TextAttr)
    tokens = prop_def(DenseArrayBase.constr(i32))
    marker = opt_prop_def(IntegerAttr[I1])
    segment = result_def(SegmentType())
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$text $tokens attr-dict"

    def __init__(self, text: str, tokens: Sequence[int], *, marker: bool = False):
        properties: dict[str, Attribute] = {
            "text": TextAttr(text),
            "tokens": DenseArrayBase.from_list(i32, tokens),
        }
        if marker:
            properties["marker"] = IntegerAttr(1, i1)
        super().__init__(properties=properties, result_types=[SegmentType()])


@irdl_op_definition
class AskOp(IRDLOperation):
    """One turn: history + prompt -> answer and the next history. Never merged or moved.

    `answer_type` is answer-type JSON, `place` is `file:line:column` (the seed depends on it),
    `options` holds what the ask sets itself (temperature, top_p, seed, stop) as JSON.
    After segment-prompts `parts` include the template's markers and `close_tokens` is the
    canonical end of the turn.
    """

    name = "flow.ask"
    agent = operand_def(AgentType)
    history = operand_def(HistoryType())
    parts = var_operand_def(AnyAttr())
    max_tokens = prop_def(IntegerAttr[I64])
    answer_type = prop_def(TextAttr)
    place = prop_def(TextAttr)
    options = opt_prop_def(TextAttr)
    close_tokens = opt_prop_def(DenseArrayBase)
    answer = result_def(AnyAttr())
    next = result_def(HistoryType())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = (
        "$agent `after` $history (`(` $parts^ `:` type($parts) `)`)? attr-dict "
        "`:` type($agent) `->` type($answer)"
    )

    def verify_(self) -> None:
        if self.max_tokens.value.data <= 0:
            raise VerifyException(f"the ask at {self.place.data} has no positive token budget")


@irdl_op_definition
class GatherOp(IRDLOperation):
    """All-gather rounds: each member speaks once a round and sees all outputs of the round before.

    Body arguments: member, its history, `others` (a list), the round (from 1). The body yields the
    member's output and next history. Results: the last round's outputs and the last histories, in
    the order of `members`. A round starts when the one before has ended for all.

    `shared`, set by plan-reuse, is done once a round: its arguments are those of the first member,
    whether or not that comes to its end, and what it yields follows the body's own arguments.
    """

    name = "flow.gather"
    members = operand_def(ListType)
    histories = operand_def(ListType)
    rounds = operand_def(i64)
    place = prop_def(TextAttr)
    outputs = result_def(ListType)
    next = result_def(ListType)
    body = region_def("single_block")
    shared = opt_region_def("single_block")
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = (
        "$members `after` $histories `for` $rounds attr-dict "
        "`:` type($members) `,` type($histories) `->` type($outputs) `,` type($next) "
        "$body (`sharing` $shared^)?"
    )

    def verify_(self) -> None:
        given = self._verify_shared()
        if len(self.body.block.args) != 4 + given:
            more = f", and the {given} shared values" if given else ""
            raise VerifyException(f"flow.gather's body takes member, history, others, round{more}")
        last = self.body.block.last_op
        if not isinstance(last, YieldOp) or len(last.values) != 2:
            raise VerifyException("flow.gather's body yields its output and the next history")

    def _verify_shared(self) -> int:
        """Return how many values the members share."""
        if self.shared is None:
            return 0
        last = self.shared.block.last_op
        if len(self.shared.block.args) != 4 or not isinstance(last, YieldOp):
            raise VerifyException(
                "flow.gather's shared region takes member, history, others, round, and yields"
            )
        return len(last.values)


@irdl_op_definition
class MapOp(IRDLOperation):
    """Do the body for each item, in parallel; one result list for each yielded value.

    Body arguments: item, index, then `carried` (tokens alone: they keep effects in order).
    Results: the lists, then the carried values.
    """

    name = "flow.map"
    items = operand_def(ListType)
    carried = var_operand_def(TokenType())
    lists = var_result_def(ListType)
    last = var_result_def(TokenType())
    body = region_def("single_block")
    irdl_options = (AttrSizedResultSegments(as_property=True), ParsePropInAttrDict())
    assembly_format = (
        "$items (`carry` `(` $carried^ `:` type($carried) `)`)? attr-dict "
        "`:` type($items) `->` `(` type($lists) `)` (`then` type($last)^)? $body"
    )

    def verify_(self) -> None:
        if len(self.body.block.args) != 2 + len(self.carried):
            raise VerifyException("flow.map's body takes item, index and what is carried")
        last = self.body.block.last_op
        if not isinstance(last, YieldOp) or len(last.values) != len(self.results):
            raise VerifyException("flow.map's body yields a value for each result")


@irdl_op_definition
class CallOp(IRDLOperation):
    """Call a tool that has no effect on the world. `place` is `file:line:column`."""

    name = "flow.call"
    callee = prop_def(FlatSymbolRefAttrConstr)
    arguments = var_operand_def(AnyAttr())
    place = prop_def(TextAttr)
    result = result_def(AnyAttr())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = (
        "$callee (`(` $arguments^ `:` type($arguments) `)`)? attr-dict `->` type($result)"
    )


@irdl_op_definition
class TokenOp(IRDLOperation):
    """The start of a workflow's order of effects."""

    name = "flow.token"
    token = result_def(TokenType())
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "attr-dict"

    def __init__(self):
        super().__init__(result_types=[TokenType()])


@irdl_op_definition
class EffectOp(IRDLOperation):
    """Call an `effect` tool: it starts when the effect before it has ended."""

    name = "flow.effect"
    callee = prop_def(FlatSymbolRefAttrConstr)
    token = operand_def(TokenType())
    arguments = var_operand_def(AnyAttr())
    place = prop_def(TextAttr)
    result = result_def(AnyAttr())
    next = result_def(TokenType())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = (
        "$callee `after` $token (`(` $arguments^ `:` type($arguments) `)`)? attr-dict "
        "`->` type($result)"
    )


@irdl_op_definition
class InvokeOp(IRDLOperation):
    """Call a workflow; results as its `flow.return` gives them."""

    name = "flow.invoke"
    callee = prop_def(FlatSymbolRefAttrConstr)
    arguments = var_operand_def(AnyAttr())
    place = prop_def(TextAttr)
    values = var_result_def(AnyAttr())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = (
        "$callee (`(` $arguments^ `:` type($arguments) `)`)? attr-dict (`->` type($values)^)?"
    )


@irdl_op_definition
class AssertOp(IRDLOperation):
    """Fail the run with the message, at the place, unless the condition holds."""

    name = "flow.assert"
    condition = operand_def(i1)
    message = operand_def(TextType())
    place = prop_def(TextAttr)
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$condition `,` $message attr-dict"


@irdl_op_definition
class FailOp(IRDLOperation):
    """Fail the run with the message."""

    name = "flow.fail"
    message = operand_def(TextType())
    place = prop_def(TextAttr)
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$message attr-dict"


FLOW = Dialect(
    "flow",
    [
        *DECLARATION_OPS,
        *VALUE_OPS,
        AskOp,
        AssertOp,
        CallOp,
        EffectOp,
        FailOp,
        GatherOp,
        HistoryOp,
        InvokeOp,
        MapOp,
        ParamOp,
        SegmentOp,
        SpawnOp,
        TokenOp,
    ],
    [
        AgentType,
        BinaryAttr,
        HistoryType,
        ListType,
        NoneType,
        OptionalType,
        RecordType,
        ReuseAttr,
        SegmentType,
        TextAttr,
        TextType,
        TokenType,
        UnaryAttr,
    ],
)
