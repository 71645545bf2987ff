"""The meaning of the language: a sequential interpreter on the numpy model.

One step after the other, no pages, no batches, no futures. Tokens of the executor must be equal.
It takes `flow` after inline-workflows and segment-prompts, which is what a program means where
everything is `exact`; and `exec`, which is what it means with the runs that plan-reuse linked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from tokenloom.models.answers import is_free_text
from tokenloom.models.llama import KvState, LlamaReference
from tokenloom.models.registry import Model
from tokenloom.runtime.asker import Asker, Where
from tokenloom.runtime.asks import Answer
from tokenloom.runtime.constrain import ConstraintError, Grammars
from tokenloom.runtime.conversation import Conversation, Encoder
from tokenloom.runtime.errors import AssertionFailed, RunError
from tokenloom.runtime.executor import Outcome
from tokenloom.runtime.listener import Listener
from tokenloom.runtime.pending import Frame
from tokenloom.runtime.redaction import Redactor
from tokenloom.runtime.request import ContextHandle, Request
from tokenloom.runtime.reuse import Node
from tokenloom.runtime.runs import Link, Run
from tokenloom.runtime.sampling import SamplingParams
from tokenloom.runtime.sequence import Sequence as Generation
from tokenloom.runtime.steps import (
    Agent,
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
    Program,
    ReleaseStep,
    RootStep,
    SliceStep,
    Slots,
    SpawnStep,
    SubmitStep,
    WhileStep,
    WindowStep,
)
from tokenloom.runtime.tools import ToolRunner
from tokenloom.runtime.values import Value


@dataclass(frozen=True)
class _Failed:
    """In place of the value of a call that failed: only what needs the value fails."""

    error: RunError


class _Values(Frame):
    """A frame in which to read a failed value is to fail."""

    def __getitem__(self, slot: int) -> Value:
        value = super().__getitem__(slot)
        if isinstance(value, _Failed):
            raise value.error
        return value


async def interpret(
    program: Program,
    workflow: str,
    inputs: Sequence[Value],
    models: Mapping[str, Model],
    tools: ToolRunner,
    *,
    seed: int = 0,
    listener: Listener | None = None,
) -> Outcome:
    """Run a workflow of `flow` or `exec`; `models` are by symbol. Raises RunError."""
    answerer = ReferenceAnswerer(models)
    asker = Asker(program, answerer, Redactor(), seed, listener or Listener())
    body = program.workflows[workflow].body
    interpreter = _Interpreter(program, asker, tools)
    results = await interpreter.block(body, _Values(None, body.arguments, inputs), Where())
    return Outcome(results[0] if results else None, tuple(asker.records))


@dataclass
class _Loaded:
    model: Model
    llama: LlamaReference
    grammars: Grammars
    runs: WeakKeyDictionary[Run, KvState] = field(default_factory=WeakKeyDictionary[Run, KvState])

    def text(self, start: KvState, ids: Sequence[int], links: Sequence[Link]) -> KvState:
        """Return the KV of `ids` up to the end of the last run, going on from `start`."""
        state = start
        for link in links:
            if link.start >= start.num_tokens:
                state, _ = self.llama.extend(state, ids[state.num_tokens : link.start])
                distance = link.start - len(link.run.head_ids)
                state = self.llama.link(state, self.run(link.run), distance)
        return state

    def run(self, run: Run) -> KvState:
        """Return the KV of a run, computed behind its head."""
        if run not in self.runs:
            head = self.text(self.llama.start(), run.head_ids, run.head_links)
            rest = (*run.head_ids[head.num_tokens :], *run.ids)
            state, _ = self.llama.extend(head, rest)
            self.runs[run] = state.behind(len(run.head_ids))
        return self.runs[run]


class ReferenceAnswerer:
    """Answers with the numpy model, token by token. A conversation's lease is its KV state."""

    def __init__(self, models: Mapping[str, Model]):
        self._models = models
        self._loaded: dict[str, _Loaded] = {}

    def encoder(self, model: str) -> Encoder:
        """Return the tokenizer."""
        return self._models[model].tokenizer

    def max_context(self, model: str) -> int:
        """Return the length of the model's context."""
        return self._models[model].config.max_context

    async def answer(
        self,
        conversation: Conversation,
        ask: AskSettings,
        sampling: SamplingParams,
        on_text: Callable[[str], None],
    ) -> Answer:
        """Generate behind what is left of the conversation without KV."""
        loaded = self._load(conversation.model)
        generation = self._generation(loaded, conversation, ask, sampling, on_text)
        eos_ids = frozenset(loaded.model.config.eos_ids)
        lease = conversation.lease
        start = lease if isinstance(lease, KvState) else loaded.llama.start()
        state = loaded.text(start, conversation.ids, conversation.links)
        while generation.finish_reason is None:
            state, logits = loaded.llama.extend(state, generation.ids[state.num_tokens :].tolist())
            generation.take_logits(logits[-1], eos_ids, 0)
        output_ids = generation.output_ids
        following = conversation.close(output_ids + ask.close_tokens, state)
        return Answer(output_ids, generation.answer.text, following)

    def _load(self, name: str) -> _Loaded:
        if name not in self._loaded:
            model = self._models[name]
            config = model.config
            self._loaded[name] = _Loaded(
                model,
                LlamaReference(config, model.weights()),
                Grammars(model.tokenizer, config.vocab_size, config.eos_ids),
            )
        return self._loaded[name]

    def _generation(
        self,
        loaded: _Loaded,
        conversation: Conversation,
        ask: AskSettings,
        sampling: SamplingParams,
        on_text: Callable[[str], None],
    ) -> Generation:
        """Return the engine's own bookkeeping of one answer: only the logits differ."""
        constraint = None
        if not is_free_text(ask.answer_type):
            try:
                constraint = loaded.grammars.constrain(ask.answer_type, ask.max_tokens)
            except ConstraintError as error:
                raise RunError(str(error), ask.place) from error
        context = ContextHandle(0, np.array(conversation.ids, np.int32), Node(b"", None, b"", -1))
        request = Request(context, (), sampling, constraint, ask.close_tokens, on_token=on_text)
        return Generation(0, request, loaded.model.tokenizer, 0)


class _Interpreter:
    def __init__(self, program: Program, asker: Asker, tools: ToolRunner):
        self._program = program
        self._asker = asker
        self._tools = tools

    async def block(self, block: Block, frame: Frame, where: Where) -> list[Value]:
        for index, step in enumerate(block.steps):
            await _HANDLERS[type(step)](self, step, frame, where.step(index))
        return frame.many(block.results)

    async def constant(self, step: ConstantStep, frame: Frame, where: Where) -> None:
        frame[step.result] = step.value

    async def compute(self, step: ComputeStep, frame: Frame, where: Where) -> None:
        try:
            frame[step.result] = step.function(*frame.many(step.operands))
        except RunError as error:
            raise RunError(error.message, error.place or step.place) from error

    async def spawn(self, step: SpawnStep, frame: Frame, where: Where) -> None:
        frame[step.result] = Agent(step.agent, tuple(frame.many(step.operands)))

    async def param(self, step: ParamStep, frame: Frame, where: Where) -> None:
        agent: Agent = frame[step.agent]
        names = self._program.agents[agent.name].params
        frame[step.result] = agent.arguments[names.index(step.param)]

    async def history(self, step: HistoryStep, frame: Frame, where: Where) -> None:
        agent: Agent = frame[step.agent]
        spec = self._program.agents[agent.name]
        assert spec.system is not None
        inner = _Values(None, spec.system.arguments, agent.arguments)
        parts = await self.block(spec.system, inner, where)
        begun = self._asker.extend(Conversation(spec.model), parts, "")
        frame[step.result] = begun.window(0)  # all there is so far is the beginning

    async def ask(self, step: AskStep, frame: Frame, where: Where) -> None:
        agent: Agent = frame[step.agent]
        history: Conversation = frame[step.history]
        num_turns = self._program.agents[agent.name].history
        kept = history.window(num_turns) if num_turns > 0 else history
        prompt = self._asker.extend(kept, frame.many(step.parts), step.settings.place)
        answer, following = await self._asker.ask(prompt, agent, step.settings, where)
        frame[step.answer] = answer
        frame[step.next] = history if num_turns == 0 else following

    async def root(self, step: RootStep, frame: Frame, where: Where) -> None:
        frame[step.result] = Conversation(step.model)

    async def extend(self, step: ExtendStep, frame: Frame, where: Where) -> None:
        context, *parts = frame.many((step.context, *step.parts))
        frame[step.result] = self._asker.extend(context, parts, step.place)

    async def window(self, step: WindowStep, frame: Frame, where: Where) -> None:
        frame[step.result] = frame[step.context].window(step.turns)

    async def slice(self, step: SliceStep, frame: Frame, where: Where) -> None:
        frame[step.result] = frame[step.context].run_behind(frame[step.base])

    async def link(self, step: LinkStep, frame: Frame, where: Where) -> None:
        frame[step.result] = frame[step.context].link(frame[step.run])

    async def submit(self, step: SubmitStep, frame: Frame, where: Where) -> None:
        context, agent = frame.many((step.context, step.agent))
        frame[step.ticket] = await self._asker.ask(context, agent, step.settings, where)

    async def wait(self, step: AwaitStep, frame: Frame, where: Where) -> None:
        frame[step.answer], frame[step.next] = frame[step.ticket]
        frame[step.done] = None

    async def move(self, step: MoveStep, frame: Frame, where: Where) -> None:
        frame[step.moved], frame[step.done] = frame[step.context], None

    async def release(self, step: ReleaseStep, frame: Frame, where: Where) -> None:
        frame.forget(step.context)

    async def call(self, step: CallStep, frame: Frame, where: Where) -> None:
        arguments = frame.many(step.operands)
        try:
            frame[step.result] = await self._tools.call(step.tool, arguments, step.place)
        except RunError as error:
            if step.next is not None:
                raise
            frame[step.result] = _Failed(error)
        if step.next is not None:
            frame[step.next] = None

    async def check(self, step: CheckStep, frame: Frame, where: Where) -> None:
        if step.condition is None or not frame[step.condition]:
            raise AssertionFailed(frame[step.message], step.place)

    async def branch(self, step: IfStep, frame: Frame, where: Where) -> None:
        block = step.then if frame[step.condition] else step.otherwise
        results = await self.block(block, _Values(frame, (), ()), where)
        _bind(frame, step.results, results)

    async def count(self, step: ForStep, frame: Frame, where: Where) -> None:
        carried = frame.many(step.initial)
        bounds = frame.many((step.lower, step.upper, step.stride))
        for index, counter in enumerate(range(*bounds)):
            inner = _Values(frame, step.body.arguments, (counter, *carried))
            carried = await self.block(step.body, inner, where.iteration(index))
        _bind(frame, step.results, carried)

    async def loop(self, step: WhileStep, frame: Frame, where: Where) -> None:
        values = frame.many(step.initial)
        index = 0
        while True:
            here = where.iteration(index)
            inner = _Values(frame, step.before.arguments, values)
            holds, *values = await self.block(step.before, inner, here)
            if not holds:
                break
            inner = _Values(frame, step.after.arguments, values)
            values = await self.block(step.after, inner, here.step(len(step.before.steps)))
            index += 1
        _bind(frame, step.results, values)

    async def each(self, step: MapStep, frame: Frame, where: Where) -> None:
        columns: list[list[Value]] = [[] for _ in step.lists]
        carried = frame.many(step.carried)
        for index, item in enumerate(frame[step.items]):
            inner = _Values(frame, step.body.arguments, (item, index, *carried))
            results = await self.block(step.body, inner, where.iteration(index))
            for column, value in zip(columns, results, strict=False):
                column.append(value)
            carried = results[len(columns) :]
        _bind(frame, (*step.lists, *step.last), [*columns, *carried])

    async def gather(self, step: GatherStep, frame: Frame, where: Where) -> None:
        members, histories = frame[step.members], frame[step.histories]
        outputs: list[Value] = []
        for number in range(1, 1 + frame[step.rounds]):
            results: list[list[Value]] = []
            shared: list[Value] = []
            if step.shared is not None and members:
                first = (members[0], histories[0], outputs, number)
                inner = _Values(frame, step.shared.arguments, first)
                shared = await self.block(step.shared, inner, where.iteration(number))
            for index, (member, history) in enumerate(zip(members, histories, strict=True)):
                arguments = (member, history, outputs, number, *shared)
                inner = _Values(frame, step.body.arguments, arguments)
                here = where.iteration(number, index)
                results.append(await self.block(step.body, inner, here))
            outputs = [result[0] for result in results]
            histories = [result[1] for result in results]
        _bind(frame, (step.outputs, step.next), [outputs, histories])


def _bind(frame: Frame, slots: Slots, values: Sequence[Value]) -> None:
    for slot, value in zip(slots, values, strict=True):
        frame[slot] = value


_HANDLERS: Mapping[type, Any] = {
    AskStep: _Interpreter.ask,
    AwaitStep: _Interpreter.wait,
    CallStep: _Interpreter.call,
    CheckStep: _Interpreter.check,
    ComputeStep: _Interpreter.compute,
    ConstantStep: _Interpreter.constant,
    ExtendStep: _Interpreter.extend,
    ForStep: _Interpreter.count,
    GatherStep: _Interpreter.gather,
    HistoryStep: _Interpreter.history,
    IfStep: _Interpreter.branch,
    LinkStep: _Interpreter.link,
    MapStep: _Interpreter.each,
    MoveStep: _Interpreter.move,
    ParamStep: _Interpreter.param,
    ReleaseStep: _Interpreter.release,
    RootStep: _Interpreter.root,
    SliceStep: _Interpreter.slice,
    SpawnStep: _Interpreter.spawn,
    SubmitStep: _Interpreter.submit,
    WhileStep: _Interpreter.loop,
    WindowStep: _Interpreter.window,
}
