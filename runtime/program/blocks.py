"""From the operations of a workflow to steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from xdsl.dialects import arith, scf
from xdsl.dialects.builtin import DenseArrayBase, FloatAttr, IntegerAttr, i1
from xdsl.ir import Block as IrBlock
from xdsl.ir import Operation, SSAValue

from tokenloom.ir import exec, flow
from tokenloom.ir import values as ir
from tokenloom.runtime.program.places import place_of
from tokenloom.runtime.program.values import value_function
from tokenloom.runtime.steps import (
    AskSettings,
    AskStep,
    AwaitStep,
    Block,
    CallStep,
    CheckStep,
    ComputeStep,
    ConstantStep,
    ExtendStep,
    ForStep,
    GatherStep,
    HistoryStep,
    IfStep,
    LinkStep,
    MapStep,
    MoveStep,
    ParamStep,
    ReleaseStep,
    RootStep,
    Segment,
    SliceStep,
    Slot,
    Slots,
    SpawnStep,
    Step,
    SubmitStep,
    WhileStep,
    WindowStep,
)


class ProgramError(Exception):
    """A module that this runtime cannot run; the message names the operation."""


class BlockDecoder:
    """Decodes blocks of one workflow; values get numbers in the order they are met."""

    def __init__(self) -> None:
        self._slots: dict[SSAValue, Slot] = {}

    def block(self, block: IrBlock) -> Block:
        """Return a block's steps. Raises ProgramError for an operation that has none."""
        arguments = self._many(block.args)
        steps: list[Step] = []
        last = block.last_op
        for op in block.ops:
            if op is not last:
                steps.append(self._step(op))
        results = self._many(last.operands) if last is not None else ()
        return Block(arguments, tuple(steps), results)

    def _one(self, value: SSAValue) -> Slot:
        return self._slots.setdefault(value, len(self._slots))

    def _many(self, values: Iterable[SSAValue]) -> Slots:
        return tuple(self._one(value) for value in values)

    def _step(self, op: Operation) -> Step:
        decoder = _DECODERS.get(type(op))
        if decoder is not None:
            return decoder(self, op)
        compute = value_function(op)
        if compute is None:
            raise ProgramError(f"{place_of(op)}: this runtime has no step for {op.name}")
        function, is_deep = compute
        operands = self._many(op.operands)
        return ComputeStep(function, operands, self._one(op.results[0]), place_of(op), is_deep)

    def constant(self, op: arith.ConstantOp) -> Step:
        """Decode a number or truth value."""
        value = op.value
        if isinstance(value, FloatAttr):
            return ConstantStep(float(value.value.data), self._one(op.result))
        assert isinstance(value, IntegerAttr)
        number = value.value.data
        is_truth = value.type == i1
        return ConstantStep(bool(number) if is_truth else number, self._one(op.result))

    def text(self, op: ir.TextOp) -> Step:
        """Decode a constant text."""
        return ConstantStep(op.value.data, self._one(op.text))

    def none(self, op: ir.NoneOp) -> Step:
        """Decode `none`."""
        return ConstantStep(None, self._one(op.value))

    def token(self, op: flow.TokenOp) -> Step:
        """Decode the start of the order of effects: a value that is there."""
        return ConstantStep(None, self._one(op.token))

    def segment(self, op: flow.SegmentOp) -> Step:
        """Decode a fixed piece of a prompt."""
        return ConstantStep(Segment(op.text.data, _ints(op.tokens)), self._one(op.segment))

    def spawn(self, op: flow.SpawnOp) -> Step:
        """Decode a new agent."""
        name = op.callee.root_reference.data
        return SpawnStep(name, self._many(op.arguments), self._one(op.agent))

    def param(self, op: flow.ParamOp) -> Step:
        """Decode the reading of an agent's argument."""
        return ParamStep(self._one(op.agent), op.param.data, self._one(op.result))

    def history(self, op: flow.HistoryOp) -> Step:
        """Decode a history's start."""
        return HistoryStep(self._one(op.agent), self._one(op.history))

    def ask(self, op: flow.AskOp) -> Step:
        """Decode an ask of `flow`."""
        if op.close_tokens is None:
            raise ProgramError(f"{op.place.data}: the prompt is not segmented yet")
        return AskStep(
            self._one(op.agent),
            self._one(op.history),
            self._many(op.parts),
            _settings(op, op.close_tokens, 0),
            self._one(op.answer),
            self._one(op.next),
        )

    def call(self, op: flow.CallOp) -> Step:
        """Decode a tool call."""
        name = op.callee.root_reference.data
        return CallStep(name, self._many(op.arguments), self._one(op.result), op.place.data)

    def effect(self, op: flow.EffectOp) -> Step:
        """Decode the call of an effect tool."""
        return CallStep(
            op.callee.root_reference.data,
            self._many(op.arguments),
            self._one(op.result),
            op.place.data,
            self._one(op.token),
            self._one(op.next),
        )

    def check(self, op: flow.AssertOp) -> Step:
        """Decode an assertion."""
        return CheckStep(self._one(op.condition), self._one(op.message), op.place.data)

    def fail(self, op: flow.FailOp) -> Step:
        """Decode a failure."""
        return CheckStep(None, self._one(op.message), op.place.data)

    def branch(self, op: scf.IfOp) -> Step:
        """Decode a choice."""
        empty = Block((), (), ())
        otherwise = self.block(op.false_region.block) if op.false_region.blocks else empty
        then = self.block(op.true_region.block)
        return IfStep(self._one(op.cond), then, otherwise, self._many(op.results))

    def count(self, op: scf.ForOp) -> Step:
        """Decode a counted loop."""
        return ForStep(
            self._one(op.lb),
            self._one(op.ub),
            self._one(op.step),
            self._many(op.iter_args),
            self.block(op.body.block),
            self._many(op.results),
        )

    def loop(self, op: scf.WhileOp) -> Step:
        """Decode a conditional loop."""
        before, after = self.block(op.before_region.block), self.block(op.after_region.block)
        return WhileStep(self._many(op.operands), before, after, self._many(op.results))

    def map(self, op: flow.MapOp) -> Step:
        """Decode a map."""
        return MapStep(
            self._one(op.items),
            self._many(op.carried),
            self.block(op.body.block),
            self._many(op.lists),
            self._many(op.last),
        )

    def gather(self, op: flow.GatherOp) -> Step:
        """Decode rounds."""
        return GatherStep(
            self._one(op.members),
            self._one(op.histories),
            self._one(op.rounds),
            self.block(op.body.block),
            self._one(op.outputs),
            self._one(op.next),
            self.block(op.shared.block) if op.shared is not None else None,
        )

    def root(self, op: exec.RootOp) -> Step:
        """Decode an empty context."""
        return RootStep(op.model.root_reference.data, self._one(op.context))

    def extend(self, op: exec.ExtendOp) -> Step:
        """Decode an extension."""
        parts = self._many(op.parts)
        return ExtendStep(self._one(op.context), parts, self._one(op.extended), place_of(op))

    def window(self, op: exec.WindowOp) -> Step:
        """Decode a window."""
        return WindowStep(self._one(op.context), op.turns.value.data, self._one(op.window))

    def slice(self, op: exec.SliceOp) -> Step:
        """Decode the taking of a run."""
        return SliceStep(self._one(op.context), self._one(op.base), self._one(op.run))

    def link(self, op: exec.LinkOp) -> Step:
        """Decode a linked run."""
        return LinkStep(self._one(op.context), self._one(op.run), self._one(op.linked))

    def submit(self, op: exec.SubmitOp) -> Step:
        """Decode a request."""
        settings = _settings(op, op.close_tokens, op.priority.value.data)
        return SubmitStep(
            self._one(op.context), self._one(op.agent), settings, self._one(op.ticket)
        )

    def wait(self, op: exec.AwaitOp) -> Step:
        """Decode the wait for a request."""
        return AwaitStep(
            self._one(op.ticket), self._one(op.answer), self._one(op.next), self._one(op.done)
        )

    def move(self, op: exec.MoveOp) -> Step:
        """Decode a copy to another tier."""
        return MoveStep(
            self._one(op.context),
            self._many(op.after),
            self._one(op.moved),
            self._one(op.done),
        )

    def release(self, op: exec.ReleaseOp) -> Step:
        """Decode the end of a context."""
        return ReleaseStep(self._one(op.context), self._many(op.after))


def _settings(op: Any, close_tokens: DenseArrayBase[Any], priority: int) -> AskSettings:
    options: dict[str, Any] = json.loads(op.options.data) if op.options else {}
    stop = cast("Sequence[str] | None", options.get("stop"))
    return AskSettings(
        max_tokens=op.max_tokens.value.data,
        answer_type=json.loads(op.answer_type.data),
        place=op.place.data,
        close_tokens=_ints(close_tokens),
        temperature=options.get("temperature"),
        top_p=options.get("top_p"),
        seed=options.get("seed"),
        stop=None if stop is None else tuple(stop),
        ordinal=options.get("ordinal", 0),
        priority=priority,
    )


def _ints(array: DenseArrayBase[Any]) -> tuple[int, ...]:
    return tuple(int(number) for number in array.iter_values())


_DECODERS: dict[type[Operation], Callable[[BlockDecoder, Any], Step]] = {
    arith.ConstantOp: BlockDecoder.constant,
    ir.TextOp: BlockDecoder.text,
    ir.NoneOp: BlockDecoder.none,
    flow.TokenOp: BlockDecoder.token,
    flow.SegmentOp: BlockDecoder.segment,
    flow.SpawnOp: BlockDecoder.spawn,
    flow.ParamOp: BlockDecoder.param,
    flow.HistoryOp: BlockDecoder.history,
    flow.AskOp: BlockDecoder.ask,
    flow.CallOp: BlockDecoder.call,
    flow.EffectOp: BlockDecoder.effect,
    flow.AssertOp: BlockDecoder.check,
    flow.FailOp: BlockDecoder.fail,
    flow.MapOp: BlockDecoder.map,
    flow.GatherOp: BlockDecoder.gather,
    scf.IfOp: BlockDecoder.branch,
    scf.ForOp: BlockDecoder.count,
    scf.WhileOp: BlockDecoder.loop,
    exec.RootOp: BlockDecoder.root,
    exec.ExtendOp: BlockDecoder.extend,
    exec.WindowOp: BlockDecoder.window,
    exec.SliceOp: BlockDecoder.slice,
    exec.LinkOp: BlockDecoder.link,
    exec.SubmitOp: BlockDecoder.submit,
    exec.AwaitOp: BlockDecoder.wait,
    exec.MoveOp: BlockDecoder.move,
    exec.ReleaseOp: BlockDecoder.release,
}
