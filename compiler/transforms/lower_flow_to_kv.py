"""Lower what agents say to each other to the KV that it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from xdsl.context import Context
from xdsl.dialects.builtin import DenseArrayBase, ModuleOp, UnknownLoc, i32
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from tokenloom.compiler.diagnostics import CompileError
from tokenloom.ir.declarations import AgentOp, WorkflowOp, YieldOp
from tokenloom.ir.flow import AskOp, HistoryOp, ParamOp, SpawnOp
from tokenloom.ir.kv import ContextType, DecodeOp, ExtendOp, RootOp, Tier, WindowOp
from tokenloom.ir.types import AgentType, HistoryType, ListType, OptionalType, RecordType

KEEP_ALL = -1
KEEP_NONE = 0


@dataclass(frozen=True)
class LowerFlowToKv(ModulePass):
    """Replace histories by contexts, and asks by an extension and a decode.

    The history of a new agent becomes the empty context followed by its system prompt, whose parts
    are copied out of the class. Gathers, maps and loops keep their regions. `tier` is where all
    contexts lie until a pass places them.

    ```mlir
    %h = flow.history %a : !flow.agent<@Judge>
    %answer, %next = flow.ask %a after %h (%p : !flow.segment) {…} : … -> !flow.text
    ```
    becomes
    ```mlir
    %0 = kv.root @smol : !kv.context<dense>
    %h = kv.extend %0 with (%system : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
    %c = kv.extend %h with (%p : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
    %answer, %next = kv.decode %c for %a {…} : … -> !flow.text, !kv.context<dense>
    ```
    With `history = last(n)` a `kv.window` stands before the second extension; with
    `history = none` the next history is `%h`.
    """

    name = "lower-flow-to-kv"
    tier: str = Tier.DENSE.value

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Lower every workflow of the module."""
        lowering = _Lowering(op, ContextType.of(Tier(self.tier)))
        for workflow in op.ops:
            if isinstance(workflow, WorkflowOp):
                for inner in list(workflow.walk()):
                    lowering.visit(inner)


class _Lowering:
    def __init__(self, module: ModuleOp, context: ContextType):
        self.context = context
        self.agents = {op.sym_name.data: op for op in module.ops if isinstance(op, AgentOp)}
        self.types: dict[Attribute, Attribute] = {HistoryType(): context}

    def visit(self, op: Operation) -> None:
        for region in op.regions:
            for block in region.blocks:
                for argument in block.args:
                    self._retype(argument)
        if isinstance(op, HistoryOp):
            self._lower_history(op)
        elif isinstance(op, AskOp):
            self._lower_ask(op)
        else:
            for result in op.results:
                self._retype(result)

    def _retype(self, value: SSAValue) -> None:
        kind = self._converted(value.type)
        if kind is not value.type:
            Rewriter.replace_value_with_new_type(value, kind)

    def _converted(self, kind: Attribute) -> Attribute:
        """Return the type with contexts in place of histories; the same object if it has none."""
        found = self.types.get(kind)
        if found is None:
            found = self._rebuilt(kind)
            self.types[kind] = kind if found == kind else found
        return self.types[kind]

    def _rebuilt(self, kind: Attribute) -> Attribute:
        if isinstance(kind, ListType):
            return ListType(self._converted(kind.item))
        if isinstance(kind, OptionalType):
            return OptionalType(self._converted(kind.item))
        if isinstance(kind, RecordType):
            names = [name.data for name in kind.names]
            types = [self._converted(field) for field in kind.types]
            return RecordType.of(list(zip(names, types, strict=True)))
        return kind

    def _class_of(self, op: HistoryOp | AskOp) -> AgentOp:
        """Return the class of the agent asked; all classes it may be of must agree on history."""
        kind = cast("AgentType", op.agent.type)
        classes = [self.agents[name.root_reference.data] for name in kind.classes]
        first = classes[0]
        for other in classes[1:]:
            if other.history != first.history:
                raise CompileError(
                    f"an ask of {first.sym_name.data} or {other.sym_name.data}, which keep their "
                    "histories differently; give both the same `history`",
                    op.location,
                )
        return first

    def _lower_history(self, op: HistoryOp) -> None:
        kind = cast("AgentType", op.agent.type)
        if len(kind.classes) > 1:
            raise CompileError("the first history of an agent of several classes", op.location)
        agent = self._class_of(op)
        new: list[Operation] = [RootOp(agent.model.root_reference.data)]
        new[0].results[0].name_hint = agent.model.root_reference.data
        Rewriter.replace_value_with_new_type(new[0].results[0], self.context)
        copies = _Copies(agent, op.agent)
        parts = copies.parts()
        new += copies.ops
        if parts:
            new.append(ExtendOp(new[0].results[0], parts))
        history = new[-1].results[0] if parts else new[0].results[0]
        _replace(op, new, [history])

    def _lower_ask(self, op: AskOp) -> None:
        turns = self._class_of(op).history
        new: list[Operation] = []
        context = op.history
        if turns.value.data not in (KEEP_ALL, KEEP_NONE):
            new.append(WindowOp(context, turns))
            context = new[-1].results[0]
            context.name_hint = "window"
        if op.parts:
            new.append(ExtendOp(context, list(op.parts)))
            context = new[-1].results[0]
            context.name_hint = "prompt"
        decode = DecodeOp.create(
            operands=[context, op.agent],
            properties=_decode_properties(op),
            result_types=[op.answer.type, self.context],
        )
        new.append(decode)
        kept = op.history if turns.value.data == KEEP_NONE else decode.next
        _replace(op, new, [decode.answer, kept])


class _Copies:
    """The body of an agent class, copied for one agent."""

    def __init__(self, agent: AgentOp, value: SSAValue):
        self.ops: list[Operation] = []
        self._body = agent.body.block
        self._mapping: dict[SSAValue, SSAValue] = {}
        for name, argument in zip(agent.params, self._body.args, strict=True):
            if argument.first_use is not None:
                self._mapping[argument] = self._argument(agent, value, name.data, argument.type)

    def _argument(self, agent: AgentOp, value: SSAValue, name: str, kind: Attribute) -> SSAValue:
        """Return what the agent was made with: itself where it is in sight, else read back."""
        owner = value.owner
        if isinstance(owner, SpawnOp):
            names = [param.data for param in agent.params]
            return owner.arguments[names.index(name)]
        self.ops.append(ParamOp(value, name, kind))
        return self.ops[-1].results[0]

    def parts(self) -> list[SSAValue]:
        for op in self._body.ops:
            if isinstance(op, YieldOp):
                return [self._mapping.get(part, part) for part in op.values]
            self.ops.append(op.clone(self._mapping))
        return []


def _decode_properties(op: AskOp) -> dict[str, Attribute]:
    properties = dict(op.properties)
    properties.setdefault("close_tokens", DenseArrayBase.from_list(i32, []))
    return properties


def _replace(op: Operation, new: list[Operation], results: list[SSAValue]) -> None:
    """Replace `op`; the new ops stand at its place in the source, and values keep their names."""
    for made in new:
        if isinstance(made.location, UnknownLoc):
            made.location = op.location
    for old, value in zip(op.results, results, strict=True):
        if value.name_hint is None:
            value.name_hint = old.name_hint
    Rewriter.replace_op(op, new, results)
