"""A run of a workflow with sizes in place of values: what it will ask, prefill, share and wait for.

It follows the dataflow of `kv` IR: constants are known, texts are token counts, contexts paths of a
prefix tree, asks and tools events of a timeline. Nothing is changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from xdsl.dialects import arith, scf
from xdsl.dialects.builtin import FloatAttr, IntegerAttr, ModuleOp
from xdsl.ir import Block, Operation, SSAValue

from tokenloom.compiler.analysis.constants import binary, unary
from tokenloom.compiler.analysis.estimates import (
    ASSUMPTIONS,
    AT_START,
    LIST_LENGTH,
    SCALAR_TOKENS,
    TOOL_TOKENS,
    Estimate,
    of_constant,
    of_input,
    of_list,
    of_type,
)
from tokenloom.compiler.analysis.model_costs import ModelCosts
from tokenloom.compiler.analysis.prefix_tree import PrefixNode
from tokenloom.compiler.analysis.timeline import Timeline
from tokenloom.ir import flow, kv, values
from tokenloom.ir.declarations import AgentOp, ReturnOp, Reuse, ToolOp, WorkflowOp, YieldOp
from tokenloom.ir.types import ListType

PAGE = 16
TOOL_NS = 1e9
"""How long a tool takes that does not say."""

MAX_EVENTS = 50_000
"""Loops are cut short once a workflow has as many events in sight."""


@dataclass
class Extension:
    """One time that a `kv.extend` is reached.

    `found` is the longest beginning of its context that was computed by then; `linkable_tokens`
    belong to texts that were put into another context before, at another place.
    """

    end: PrefixNode
    base: PrefixNode
    found: PrefixNode
    linkable_tokens: int


@dataclass
class Ask:
    """One time that a `kv.decode` is reached."""

    event: int
    prefill_tokens: int
    reused_tokens: int
    linkable_tokens: int


@dataclass
class Forecast:
    """All that one run of a workflow does, by op, in order."""

    timeline: Timeline = field(default_factory=Timeline)
    extensions: dict[Operation, list[Extension]] = field(
        default_factory=dict[Operation, list[Extension]]
    )
    asks: dict[Operation, list[Ask]] = field(default_factory=dict[Operation, list[Ask]])
    critical_path_ns: float = 0.0
    assumptions: list[str] = field(default_factory=lambda: list(ASSUMPTIONS))


def forecast(module: ModuleOp, workflow: WorkflowOp, costs: Mapping[str, ModelCosts]) -> Forecast:
    """Return what one run of `workflow` does; `costs` by the symbol of the model."""
    run = _Run(module, costs)
    inputs = [of_input(declared) for declared in json.loads(workflow.inputs.data)]
    run.block(workflow.body.block, inputs)
    run.result.critical_path_ns = run.result.timeline.finish()
    return run.result


class _Run:
    def __init__(self, module: ModuleOp, costs: Mapping[str, ModelCosts]):
        self.costs = costs
        self.agents = {op.sym_name.data: op for op in module.ops if isinstance(op, AgentOp)}
        self.tools = {op.sym_name.data: op for op in module.ops if isinstance(op, ToolOp)}
        self.result = Forecast()
        self.timeline = self.result.timeline
        self.known: dict[SSAValue, Estimate] = {}
        self.roots: dict[str, PrefixNode] = {}
        self.segments: dict[Operation, Estimate] = {}
        self.placed: dict[Estimate, PrefixNode] = {}
        self.linkable: dict[PrefixNode, int] = {}
        self.control = AT_START

    # Regions

    def block(self, block: Block, arguments: Sequence[Estimate]) -> list[Estimate]:
        """Follow the ops of a block; return what its terminator gives."""
        self.known.update(zip(block.args, arguments, strict=True))
        for op in block.ops:
            if isinstance(op, YieldOp | ReturnOp | scf.YieldOp | scf.ConditionOp):
                return self.operands(op)
            self.set(op, _HANDLERS.get(type(op), _Run.unknown)(self, op))
        return []

    def operands(self, op: Operation) -> list[Estimate]:
        return [self.known[operand] for operand in op.operands]

    def set(self, op: Operation, results: Sequence[Estimate]) -> None:
        for result, estimate in zip(op.results, results, strict=True):
            self.known[result] = estimate

    def when(self, *estimates: Estimate) -> int:
        """Return the event after which all of these are ready."""
        return self.timeline.join(estimate.event for estimate in estimates)

    def may_go_on(self) -> bool:
        """Return whether loops are followed further, and say so once if not."""
        if len(self.timeline.events) < MAX_EVENTS:
            return True
        cut = f"only the first {MAX_EVENTS} asks and tool calls of a workflow are followed"
        if cut not in self.result.assumptions:
            self.result.assumptions.append(cut)
        return False

    # Control flow

    def if_(self, op: Operation) -> list[Estimate]:
        branch = cast("scf.IfOp", op)
        condition = self.known[branch.cond]
        if isinstance(condition.constant, bool):
            region = branch.true_region if condition.constant else branch.false_region
            return self.block(region.block, []) if region.blocks else []
        outer = self.control
        self.control = self.timeline.join([outer, condition.event])
        sides = [
            self.block(region.block, [])
            for region in (branch.true_region, branch.false_region)
            if region.blocks
        ]
        results = [self.either(*pair) for pair in zip(*sides, strict=True)] if op.results else []
        self.control = outer
        return results

    def either(self, one: Estimate, other: Estimate) -> Estimate:
        """Return the larger of two values that one of two branches gives."""
        larger = max(one, other, key=lambda e: (e.node.tokens if e.node else 0, e.tokens))
        event = self.timeline.join([one.event, other.event, self.control])
        merged = larger.ready_after(event)
        merged.constant = one.constant if one.constant == other.constant else None
        merged.content = one.content if one.content == other.content else None
        return merged

    def for_(self, op: Operation) -> list[Estimate]:
        loop = cast("scf.ForOp", op)
        bounds = [self.known[value].constant for value in (loop.lb, loop.ub, loop.step)]
        first, last, step = (b if isinstance(b, int) else None for b in bounds)
        steps = range(LIST_LENGTH)
        if first is not None and last is not None and step:
            steps = range(first, last, step)
        carried = [self.known[value] for value in loop.iter_args]
        event = self.known[loop.ub].event
        for index in steps:
            carried = self.block(loop.body.block, [of_constant(index, event), *carried])
            if not self.may_go_on():
                break
        return carried

    def while_(self, op: Operation) -> list[Estimate]:
        """Follow a loop until its condition is known to fail; an unknown one goes on."""
        loop = cast("scf.WhileOp", op)
        carried = [self.known[value] for value in loop.arguments]
        outer = self.control
        while True:
            condition, *carried = self.block(loop.before_region.block, carried)
            self.control = self.timeline.join([self.control, condition.event])
            if condition.constant is False or not self.may_go_on():
                break
            carried = self.block(loop.after_region.block, carried)
        self.control = outer
        return carried

    def gather(self, op: Operation) -> list[Estimate]:
        gather = cast("flow.GatherOp", op)
        members = self.items(self.known[gather.members])
        histories = self.items(self.known[gather.histories], len(members))
        rounds = self.known[gather.rounds].constant
        others, outer = of_list([], AT_START), self.control
        for number in range(rounds if isinstance(rounds, int) else LIST_LENGTH):
            outputs: list[Estimate] = []
            for index, member in enumerate(members):
                arguments = [member, histories[index], others, of_constant(number + 1)]
                output, histories[index] = self.block(gather.body.block, arguments)
                outputs.append(output)
            self.control = self.when(*outputs, *histories)
            others = of_list(outputs, self.control)
            if not self.may_go_on():
                break
        event, self.control = self.control, outer
        return [others, of_list(histories, event)]

    def map_(self, op: Operation) -> list[Estimate]:
        mapped = cast("flow.MapOp", op)
        carried = [self.known[value] for value in mapped.carried]
        columns: list[list[Estimate]] = [[] for _ in mapped.lists]
        for index, item in enumerate(self.items(self.known[mapped.items])):
            results = self.block(mapped.body.block, [item, of_constant(index), *carried])
            for column, result in zip(columns, results, strict=False):
                column.append(result)
            carried = results[len(columns) :]
            if not self.may_go_on():
                break
        return [*(of_list(column, self.when(*column)) for column in columns), *carried]

    def items(self, value: Estimate, length: int = LIST_LENGTH) -> list[Estimate]:
        """Return the elements of a list; those of an unknown one share its tokens."""
        if value.items is not None:
            return list(value.items)
        one = value.ready_after(value.event)
        one.tokens = value.tokens // length
        return [one] * length

    # Contexts, asks and tools

    def root(self, op: Operation) -> list[Estimate]:
        model = cast("kv.RootOp", op).model.root_reference.data
        node = self.roots.setdefault(model, PrefixNode(None, model, 0, op))
        return [Estimate(node=node)]

    def extend(self, op: Operation) -> list[Estimate]:
        extend = cast("kv.ExtendOp", op)
        base = self.known[extend.context]
        parts = [self.known[part] for part in extend.parts]
        assert base.node is not None
        node, linkable = base.node, 0
        node.shared |= bool(node.children)
        for part in parts:
            node = node.child(part.key, part.tokens, op)
            if part.content is None and not node.shared:
                before = self.placed.setdefault(part, node)
                if before is not node and part.tokens >= PAGE:
                    self.linkable[node] = part.tokens
                    linkable += part.tokens
        node.system |= base.node.parent is None
        made = Extension(node, base.node, node.last_computed(), linkable)
        self.result.extensions.setdefault(op, []).append(made)
        return [Estimate(node=node, event=self.when(base, *parts))]

    def window(self, op: Operation) -> list[Estimate]:
        window = cast("kv.WindowOp", op)
        base = self.known[window.context]
        assert base.node is not None
        node = base.node.window(window.turns.value.data, op)
        return [Estimate(node=node, event=base.event)]

    def same(self, op: Operation) -> list[Estimate]:
        """Follow an op that hands its first operand on."""
        rest = [Estimate() for _ in op.results[1:]]
        return [self.known[op.operands[0]], *rest]

    def decode(self, op: Operation) -> list[Estimate]:
        decode = cast("kv.DecodeOp", op)
        context, agent = self.known[decode.context], self.known[decode.agent]
        node, most = context.node, decode.max_tokens.value.data
        assert node is not None
        *_, root = node.path()
        costs = self.costs[str(root.key)]
        found = node.compute()
        reused = found.tokens if found.answer else found.tokens - found.tokens % PAGE
        new_tokens = node.tokens - reused
        event = self.timeline.ask(
            (context.event, agent.event, self.control),
            costs.prefill_ns(new_tokens, reused),
            most,
            node.tokens + most // 2,
            costs.step_ns,
        )
        linkable = sum(self.linkable.pop(made, 0) for made in node.path())
        made = Ask(event, new_tokens, reused, linkable if self.may_link(decode) else 0)
        self.result.asks.setdefault(op, []).append(made)
        answer = of_type(json.loads(decode.answer_type.data), most, event)
        answer.tokens = min(answer.tokens, most)
        end = node.child(answer, most + len(decode.close_tokens), op)
        end.answer = end.computed = True
        return [answer, Estimate(node=end, event=event)]

    def may_link(self, decode: kv.DecodeOp) -> bool:
        """Return whether the classes asked allow linked reuse."""
        kind = cast("flow.AgentType", decode.agent.type)
        classes = [self.agents[name.root_reference.data] for name in kind.classes]
        return all(agent.reuse.data is Reuse.LINKED for agent in classes)

    def call(self, op: Operation) -> list[Estimate]:
        tool = self.tools[cast("flow.CallOp | flow.EffectOp", op).callee.root_reference.data]
        takes = tool.takes_ns.value.data if tool.takes_ns is not None else TOOL_NS
        after = [self.control, *(e.event for e in self.operands(op))]
        event = self.timeline.tool(after, takes)
        result = of_type(json.loads(tool.result.data), TOOL_TOKENS, event)
        return [result, *(Estimate(event=event) for _ in op.results[1:])]

    # Values

    def constant(self, op: Operation) -> list[Estimate]:
        value = cast("arith.ConstantOp", op).value
        assert isinstance(value, IntegerAttr | FloatAttr)
        number = value.value.data
        is_bool = isinstance(value, IntegerAttr) and value.type == flow.i1
        return [of_constant(bool(number) if is_bool else number)]

    def text(self, op: Operation) -> list[Estimate]:
        if op not in self.segments:
            self.segments[op] = of_constant(cast("values.TextOp", op).value.data)
        return [self.segments[op]]

    def segment(self, op: Operation) -> list[Estimate]:
        if op not in self.segments:
            segment = cast("flow.SegmentOp", op)
            content = ("segment", segment.tokens.data)
            self.segments[op] = Estimate(len(segment.tokens), content=content)
        return [self.segments[op]]

    def spawn(self, op: Operation) -> list[Estimate]:
        spawn = cast("flow.SpawnOp", op)
        name, arguments = spawn.callee.root_reference.data, self.operands(op)
        names = [param.data for param in self.agents[name].params]
        fields = dict(zip(names, arguments, strict=True))
        return [Estimate(event=self.when(*arguments), fields=fields, classes=(name,))]

    def param(self, op: Operation) -> list[Estimate]:
        param = cast("flow.ParamOp", op)
        return [self.field_of(self.known[param.agent], param.param.data)]

    def field_(self, op: Operation) -> list[Estimate]:
        read = cast("values.FieldOp", op)
        return [self.field_of(self.known[read.record], read.field.data)]

    @staticmethod
    def field_of(whole: Estimate, name: str) -> Estimate:
        if whole.fields is not None and name in whole.fields:
            return whole.fields[name]
        return Estimate(whole.tokens, whole.event)

    def list_(self, op: Operation) -> list[Estimate]:
        items = self.operands(op)
        return [of_list(items, self.when(*items))]

    def record(self, op: Operation) -> list[Estimate]:
        fields = self.operands(op)
        names = cast("flow.RecordType", op.results[0].type).names
        known = {name.data: value for name, value in zip(names, fields, strict=True)}
        tokens = sum(value.tokens + SCALAR_TOKENS for value in fields)
        return [Estimate(tokens, self.when(*fields), fields=known)]

    def index(self, op: Operation) -> list[Estimate]:
        read = cast("values.IndexOp", op)
        items, position = self.known[read.items], self.known[read.position].constant
        found = self.items(items)
        known = isinstance(position, int) and -len(found) <= position < len(found)
        return [found[position] if known else found[0] if found else Estimate(event=items.event)]

    def update(self, op: Operation) -> list[Estimate]:
        changed = cast("values.UpdateOp", op)
        items = self.items(self.known[changed.items])
        position = self.known[changed.position].constant
        if isinstance(position, int) and -len(items) <= position < len(items):
            items[position] = self.known[changed.value]
        return [of_list(items, self.when(*self.operands(op)))]

    def length(self, op: Operation) -> list[Estimate]:
        value = self.known[op.operands[0]]
        size = len(value.items) if value.items is not None else None
        if size is None and isinstance(op.operands[0].type, ListType):
            size = LIST_LENGTH
        return [Estimate(SCALAR_TOKENS, value.event, size)]

    def binary(self, op: Operation) -> list[Estimate]:
        left, right = self.operands(op)
        kind = cast("values.BinaryOp", op).operator.data
        known = binary(kind, left.constant, right.constant)
        return [Estimate(left.tokens + right.tokens, self.when(left, right), known)]

    def unary(self, op: Operation) -> list[Estimate]:
        value = self.known[op.operands[0]]
        known = unary(cast("values.UnaryOp", op).operator.data, value.constant)
        return [Estimate(value.tokens, value.event, known)]

    def unknown(self, op: Operation) -> list[Estimate]:
        """Follow any other op: its results have the tokens of its operands, and wait for them."""
        operands = self.operands(op)
        event = self.when(*operands)
        tokens = sum(operand.tokens for operand in operands)
        return [Estimate(tokens, event) for _ in op.results]


_HANDLERS: dict[type[Operation], Callable[[_Run, Operation], list[Estimate]]] = {
    arith.ConstantOp: _Run.constant,
    scf.IfOp: _Run.if_,
    scf.ForOp: _Run.for_,
    scf.WhileOp: _Run.while_,
    flow.GatherOp: _Run.gather,
    flow.MapOp: _Run.map_,
    flow.CallOp: _Run.call,
    flow.EffectOp: _Run.call,
    flow.SegmentOp: _Run.segment,
    flow.SpawnOp: _Run.spawn,
    flow.ParamOp: _Run.param,
    values.TextOp: _Run.text,
    values.SomeOp: _Run.same,
    values.ListOp: _Run.list_,
    values.RecordOp: _Run.record,
    values.FieldOp: _Run.field_,
    values.IndexOp: _Run.index,
    values.UpdateOp: _Run.update,
    values.LenOp: _Run.length,
    values.BinaryOp: _Run.binary,
    values.UnaryOp: _Run.unary,
    kv.RootOp: _Run.root,
    kv.ExtendOp: _Run.extend,
    kv.WindowOp: _Run.window,
    kv.MoveOp: _Run.same,
    kv.DecodeOp: _Run.decode,
}
