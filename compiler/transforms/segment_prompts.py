"""Make prompts into segments: the fixed pieces tokenized, the chat template's markers put in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects.builtin import LocationAttr, ModuleOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from tokenloom.compiler.analysis.prompt_lengths import Overflow, find_overflows
from tokenloom.compiler.context import CompileContext, compile_context
from tokenloom.compiler.diagnostics import CompileError, CompileErrors, Note
from tokenloom.ir.declarations import AgentOp, ModelOp, WorkflowOp, YieldOp
from tokenloom.ir.flow import AskOp, SegmentOp
from tokenloom.ir.types import AgentType, SegmentType
from tokenloom.ir.values import TextOp
from tokenloom.models.answers import shortest_answer_tokens
from tokenloom.models.registry import Model, ModelError


@dataclass(frozen=True)
class SegmentPrompts(ModulePass):
    r"""Tokenize the fixed pieces of every prompt, each on its own, and wrap turns in markers.

    A constant text that is part of a prompt becomes a `flow.segment`; other values stay, and are
    tokenized at run time. Agent classes get the start of a conversation and their system turn,
    asks the user turn and the start of the answer, and `close_tokens`, the end of the turn.

    ```mlir
    %0 = flow.text <"Who won?">
    %1, %2 = flow.ask %a after %h (%0 : !flow.text) {…} : …
    ```
    becomes
    ```mlir
    %0 = flow.segment <"Who won?"> [9342, 1604, 47]
    %3 = flow.segment <"<|im_start|>user\n"> [1, 4093, 198] {"marker" = true}
    %4 = flow.segment <"<|im_end|>\n<|im_start|>assistant\n"> [2, 198, 1, …] {"marker" = true}
    %1, %2 = flow.ask %a after %h (%3, %0, %4 : …) {"close_tokens" = array<i32: 2, 198>, …} : …
    ```

    Raises CompileErrors, with places, for models that are not there, budgets below the shortest
    answer, and prompts that cannot fit the context.
    """

    name = "segment-prompts"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Segment all agent classes and workflows of the module."""
        segmenter = _Segmenter(compile_context(ctx), op)
        for inner in list(op.walk()):
            if isinstance(inner, AskOp):
                segmenter.ask(inner)
        for agent in segmenter.agents.values():
            segmenter.agent(agent)
        segmenter.erase_unused_texts()
        for workflow in op.ops:
            if isinstance(workflow, WorkflowOp):
                segmenter.check_lengths(workflow)
        if segmenter.errors:
            raise CompileErrors(segmenter.errors)


@dataclass
class _ModelText:
    """What one model makes of texts; each text is tokenized once."""

    model: Model
    segments: dict[tuple[str, bool], dict[str, Attribute]] = field(
        default_factory=dict[tuple[str, bool], "dict[str, Attribute]"]
    )
    shortest: dict[str, int] = field(default_factory=dict[str, int])

    def segment(self, text: str, location: LocationAttr, *, marker: bool) -> SegmentOp:
        key = (text, marker)
        if key not in self.segments:
            tokenizer = self.model.tokenizer
            tokens = tokenizer.encode_markers(text) if marker else tokenizer.encode(text)
            self.segments[key] = dict(SegmentOp(text, tokens, marker=marker).properties)
        op = SegmentOp.create(properties=dict(self.segments[key]), result_types=[_SEGMENT])
        op.location = location
        return op

    def shortest_answer(self, answer_type: str) -> int:
        if answer_type not in self.shortest:
            answer = json.loads(answer_type)
            self.shortest[answer_type] = shortest_answer_tokens(answer, self.model.tokenizer)
        return self.shortest[answer_type]


_SEGMENT = SegmentType()


class _Segmenter:
    def __init__(self, ctx: CompileContext, module: ModuleOp) -> None:
        self.errors: list[CompileError] = []
        self.agents = {op.sym_name.data: op for op in module.ops if isinstance(op, AgentOp)}
        self._ctx = ctx
        self._models = {op.sym_name.data: op for op in module.ops if isinstance(op, ModelOp)}
        self._texts: dict[str, _ModelText | None] = {}
        self._segments: dict[tuple[TextOp, str], SSAValue] = {}

    def ask(self, op: AskOp) -> None:
        """Put the markers of a turn around the parts of an ask."""
        text = self._text_of_ask(op)
        if text is None or op.close_tokens is not None:
            return
        template = text.model.template
        opened = self._markers(text, [template.user_open], op)
        closed = self._markers(text, [template.user_close + template.assistant_open], op)
        parts = [self._part(part, text) for part in op.parts]
        op.operands = [op.agent, op.history, *opened, *parts, *closed]
        op.close_tokens = text.segment(template.assistant_close, op.location, marker=True).tokens
        self._check_budget(op, text)

    def agent(self, agent: AgentOp) -> None:
        """Put the start of a conversation and the markers of the system turn into a class."""
        text = self._text(agent.model.root_reference.data)
        last = agent.body.block.last_op
        assert isinstance(last, YieldOp)
        if text is None or any(isinstance(part.owner, SegmentOp) for part in last.values):
            return
        template = text.model.template
        if last.values and not template.supports_system:
            source = text.model.name
            message = f"the chat template of `{source}` has no system turn"
            self.errors.append(CompileError(message, agent.location))
            return
        parts = [self._part(part, text) for part in last.values]
        opening, closing = ([template.system_open], [template.system_close]) if parts else ([], [])
        opened = self._markers(text, [template.start, *opening], last)
        last.operands = [*opened, *parts, *self._markers(text, closing, last)]

    def erase_unused_texts(self) -> None:
        """Take out the texts that are now segments and nothing else."""
        for text in dict.fromkeys(text for text, _ in self._segments):
            if text.text.first_use is None:
                Rewriter.erase_op(text)

    def check_lengths(self, workflow: WorkflowOp) -> None:
        """Add an error for each ask that cannot fit the context."""
        contexts: dict[str, int] = {}
        for name, agent in self.agents.items():
            text = self._text(agent.model.root_reference.data)
            if text is None:
                return
            contexts[name] = text.model.config.max_context
        found = find_overflows(workflow, self.agents, contexts)
        self.errors += [_overflow_error(overflow) for overflow in found]

    def _markers(self, text: _ModelText, markers: Sequence[str], op: Operation) -> list[SSAValue]:
        """Put segments for the markers that are not empty before an op."""
        block = op.parent
        assert block is not None
        made = [text.segment(m, op.location, marker=True) for m in markers if m]
        for segment in made:
            block.insert_op_before(segment, op)
        return [segment.segment for segment in made]

    def _part(self, part: SSAValue, text: _ModelText) -> SSAValue:
        """Return the segment of a constant text, made behind it; any other value as it is."""
        owner = part.owner
        if not isinstance(owner, TextOp):
            return part
        key = (owner, text.model.name)
        if key not in self._segments:
            segment = text.segment(owner.value.data, owner.location, marker=False)
            block = owner.parent
            assert block is not None
            block.insert_op_after(segment, owner)
            segment.segment.name_hint = part.name_hint
            self._segments[key] = segment.segment
        return self._segments[key]

    def _text_of_ask(self, op: AskOp) -> _ModelText | None:
        """Return the tokenizer and template of an ask; an error where the classes differ in it."""
        kind = op.agent.type
        assert isinstance(kind, AgentType)
        classes = [self.agents[name.root_reference.data] for name in kind.classes]
        names = [agent.model.root_reference.data for agent in classes]
        sources = {self._models[name].source.data: name for name in names}
        if len(sources) > 1:
            listed = " and ".join(f"`{name}`" for name in sources.values())
            message = f"asking agents of different models ({listed}) in one place"
            self.errors.append(CompileError(f"{message} is not supported yet", op.location))
            return None
        return self._text(names[0])

    def _text(self, name: str) -> _ModelText | None:
        """Return what a declared model makes of texts; None and one error if it is not there."""
        source = self._models[name].source.data
        if source not in self._texts:
            self._texts[source] = self._resolve(self._models[name])
        return self._texts[source]

    def _resolve(self, declared: ModelOp) -> _ModelText | None:
        try:
            text = _ModelText(self._ctx.model(declared.source.data))
            _ = text.model.tokenizer, text.model.template, text.model.config
        except ModelError as error:
            self.errors.append(CompileError(str(error), declared.location))
            return None
        return text

    def _check_budget(self, op: AskOp, text: _ModelText) -> None:
        shortest = text.shortest_answer(op.answer_type.data)
        budget = op.max_tokens.value.data
        if budget < shortest:
            message = (
                f"`max = {budget}` is too small: the shortest answer of this type "
                f"takes {shortest} tokens"
            )
            self.errors.append(CompileError(message, op.location))


def _overflow_error(found: Overflow) -> CompileError:
    message = (
        f"this prompt can exceed the model's context: up to {found.history} tokens of history, "
        f"{found.prompt} of prompt and `max = {found.budget}` are {found.total}, "
        f"the context is {found.context}"
    )
    advice = "lower `max`, shorten the prompt, or let the agent forget with `history = last(n)`"
    return CompileError(message, found.ask.location, [Note(advice, kind="help")])
