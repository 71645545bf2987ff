"""The `kv` dialect: what KV exists, how it is reused, where it lies, when it moves.

A context is an immutable value: extending it makes a new one, so sharing is CSE, a fork is a value
with two uses, and eviction is liveness. A run is a row of pages in one position frame.
"""

from __future__ import annotations

from xdsl.dialects.builtin import (
    I64,
    DenseArrayBase,
    FlatSymbolRefAttrConstr,
    IntegerAttr,
    SymbolRefAttr,
)
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import (
    Attribute,
    Dialect,
    ParametrizedAttribute,
    SpacedOpaqueSyntaxAttribute,
    SSAValue,
    TypeAttribute,
)
from xdsl.irdl import (
    AnyAttr,
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.str_enum import StrEnum

from tokenloom.ir.text import TextAttr
from tokenloom.ir.types import AgentType


class Tier(StrEnum):
    """Where pages lie: next to PIM units, in GPU-visible memory, in host memory, on disk."""

    PIM = "pim"
    DENSE = "dense"
    HOST = "host"
    DISK = "disk"


class Source(StrEnum):
    """How an extension gets its KV: computed, found under an equal prefix, or taken over."""

    DENSE = "dense"
    PREFIX = "prefix"
    LINKED = "linked"


@irdl_attr_definition
class SourceAttr(EnumAttribute[Source], SpacedOpaqueSyntaxAttribute):
    """`#kv<source prefix>`."""

    name = "kv.source"


class Advice(StrEnum):
    """What a `kv.hint` asks for; the scheduler may refuse."""

    OFFLOAD = "offload"
    PREFETCH = "prefetch"
    KEEP = "keep"


@irdl_attr_definition
class AdviceAttr(EnumAttribute[Advice], SpacedOpaqueSyntaxAttribute):
    """`#kv<advice offload>`."""

    name = "kv.advice"


@irdl_attr_definition
class EventType(ParametrizedAttribute, TypeAttribute):
    """Done when the asynchronous op that returned it is done: `!kv.event`."""

    name = "kv.event"


@irdl_attr_definition
class RunType(ParametrizedAttribute, TypeAttribute):
    """A row of sealed pages in one position frame, free of any context: `!kv.run`."""

    name = "kv.run"


@irdl_attr_definition
class ContextType(ParametrizedAttribute, TypeAttribute):
    """The KV of a whole prompt, in a tier: `!kv.context<dense>`."""

    name = "kv.context"
    tier_name: Attribute

    @classmethod
    def of(cls, tier: Tier) -> ContextType:
        """Make the type for a tier."""
        return cls(TextAttr(tier.value))

    @property
    def tier(self) -> Tier:
        """Return the tier."""
        assert isinstance(self.tier_name, TextAttr)
        return Tier(self.tier_name.data)

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> list[Attribute]:
        """Parse `<tier>`."""
        with parser.in_angle_brackets():
            return [TextAttr(parser.parse_str_enum(Tier).value)]

    def print_parameters(self, printer: Printer) -> None:
        """Print `<tier>`."""
        with printer.in_angle_brackets():
            printer.print_string(self.tier.value)


def tier_of(value: SSAValue) -> Tier:
    """Return the tier a context lies in."""
    assert isinstance(value.type, ContextType)
    return value.type.tier


@irdl_op_definition
class RootOp(IRDLOperation):
    """The empty context of a model."""

    name = "kv.root"
    model = prop_def(FlatSymbolRefAttrConstr)
    context = result_def(ContextType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$model attr-dict `:` type($context)"

    def __init__(self, model: str, tier: Tier = Tier.DENSE):
        super().__init__(
            properties={"model": SymbolRefAttr(model)}, result_types=[ContextType.of(tier)]
        )


@irdl_op_definition
class ExtendOp(IRDLOperation):
    """A context followed by parts: segments, or values that are tokenized at run time.

    Two equal extensions are one value (CSE). `source` says where the KV comes from and
    `decision` names the entry of the plan that says why; both are set by plan-reuse.
    """

    name = "kv.extend"
    context = operand_def(ContextType)
    parts = var_operand_def(AnyAttr())
    source = opt_prop_def(SourceAttr)
    decision = opt_prop_def(TextAttr)
    extended = result_def(ContextType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = (
        "$context `with` `(` $parts `:` type($parts) `)` attr-dict "
        "`:` type($context) `->` type($extended)"
    )

    def __init__(self, context: SSAValue, parts: list[SSAValue]):
        super().__init__(operands=[context, parts], result_types=[context.type])

    def verify_(self) -> None:
        if tier_of(self.context) != tier_of(self.extended):
            raise VerifyException(
                f"kv.extend cannot change the tier: {tier_of(self.context)} to "
                f"{tier_of(self.extended)}; only kv.move does"
            )


@irdl_op_definition
class WindowOp(IRDLOperation):
    """The context with its system prompt and its last `turns` turns alone."""

    name = "kv.window"
    context = operand_def(ContextType)
    turns = prop_def(IntegerAttr[I64])
    window = result_def(ContextType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$context $turns attr-dict `:` type($context) `->` type($window)"

    def __init__(self, context: SSAValue, turns: IntegerAttr):
        super().__init__(
            operands=[context], properties={"turns": turns}, result_types=[context.type]
        )


@irdl_op_definition
class SliceOp(IRDLOperation):
    """The run behind `base` in `context`, as a value; it is sealed: nobody appends to it."""

    name = "kv.slice"
    context = operand_def(ContextType)
    base = operand_def(ContextType)
    run = result_def(RunType())
    traits = traits_def(Pure())
    assembly_format = "$context `behind` $base attr-dict `:` type($context) `,` type($base)"

    def __init__(self, context: SSAValue, base: SSAValue):
        super().__init__(operands=[context, base], result_types=[RunType()])


@irdl_op_definition
class LinkOp(IRDLOperation):
    """A context followed by a run computed elsewhere, taken over position-free (approximate)."""

    name = "kv.link"
    context = operand_def(ContextType)
    run = operand_def(RunType())
    decision = opt_prop_def(TextAttr)
    linked = result_def(ContextType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$context `,` $run attr-dict `:` type($context) `->` type($linked)"

    def __init__(self, context: SSAValue, run: SSAValue, decision: str):
        super().__init__(
            operands=[context, run],
            properties={"decision": TextAttr(decision)},
            result_types=[context.type],
        )


@irdl_op_definition
class DecodeOp(IRDLOperation):
    """Generate an answer behind a context; the next context holds the answer and the turn's end.

    Never merged, dropped or moved. Properties as `flow.ask`. `priority` and `slack_ns` are set by
    rank-agents.
    """

    name = "kv.decode"
    context = operand_def(ContextType)
    agent = operand_def(AgentType)
    max_tokens = prop_def(IntegerAttr[I64])
    answer_type = prop_def(TextAttr)
    place = prop_def(TextAttr)
    options = opt_prop_def(TextAttr)
    close_tokens = prop_def(DenseArrayBase)
    priority = opt_prop_def(IntegerAttr[I64])
    slack_ns = opt_prop_def(IntegerAttr[I64])
    answer = result_def(AnyAttr())
    next = result_def(ContextType)
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = (
        "$context `for` $agent attr-dict `:` type($context) `,` type($agent) "
        "`->` type($answer) `,` type($next)"
    )

    def verify_(self) -> None:
        if self.max_tokens.value.data <= 0:
            raise VerifyException(f"the decode at {self.place.data} has no positive token budget")
        if tier_of(self.context) != tier_of(self.next):
            raise VerifyException(
                f"kv.decode cannot change the tier: {tier_of(self.context)} to {tier_of(self.next)}"
            )


@irdl_op_definition
class MoveOp(IRDLOperation):
    """Copy a context to another tier, after the events; it may be read there once `done`."""

    name = "kv.move"
    context = operand_def(ContextType)
    after = var_operand_def(EventType())
    moved = result_def(ContextType)
    done = result_def(EventType())
    assembly_format = (
        "$context (`after` `(` $after^ `)`)? attr-dict `:` type($context) `->` type($moved)"
    )

    def verify_(self) -> None:
        if tier_of(self.context) == tier_of(self.moved):
            raise VerifyException(f"kv.move must change the tier, both are {tier_of(self.context)}")


@irdl_op_definition
class HintOp(IRDLOperation):
    """Advise the scheduler about a context; it may refuse, and no type changes."""

    name = "kv.hint"
    advice = prop_def(AdviceAttr)
    context = operand_def(ContextType)
    after = var_operand_def(EventType())
    deadline_ns = opt_prop_def(IntegerAttr[I64])
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$advice $context (`after` `(` $after^ `)`)? attr-dict `:` type($context)"


@irdl_op_definition
class DropOp(IRDLOperation):
    """Give a context's pages back, after the events. Nothing may use the value afterwards."""

    name = "kv.drop"
    context = operand_def(ContextType)
    after = var_operand_def(EventType())
    assembly_format = "$context (`after` `(` $after^ `)`)? attr-dict `:` type($context)"


@irdl_op_definition
class ReserveOp(IRDLOperation):
    """Set pages for `tokens` tokens aside in a tier before they are needed."""

    name = "kv.reserve"
    tokens = prop_def(IntegerAttr[I64])
    tier = prop_def(TextAttr)
    after = var_operand_def(EventType())
    done = result_def(EventType())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$tokens `in` $tier (`after` `(` $after^ `)`)? attr-dict"

    def verify_(self) -> None:
        if self.tier.data not in list(Tier):
            raise VerifyException(f"kv.reserve: no tier {self.tier.data!r}")
        if self.tokens.value.data <= 0:
            raise VerifyException("kv.reserve sets aside a positive number of tokens")


KV = Dialect(
    "kv",
    [
        DecodeOp,
        DropOp,
        ExtendOp,
        HintOp,
        LinkOp,
        MoveOp,
        ReserveOp,
        RootOp,
        SliceOp,
        WindowOp,
    ],
    [AdviceAttr, ContextType, EventType, RunType, SourceAttr],
)
