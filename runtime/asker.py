"""Asks of one run: settles their settings, has them answered, keeps their records.

Executor and reference interpreter ask through it, each with an answerer of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tokenloom.models.errors import ModelError
from tokenloom.runtime.asks import (
    Answer,
    AskRecord,
    AskStart,
    check_fits,
    label_of,
    make_record,
    parse,
    sampling_params,
)
from tokenloom.runtime.conversation import Conversation, Encoder
from tokenloom.runtime.errors import RunError
from tokenloom.runtime.listener import Listener
from tokenloom.runtime.redaction import MASK, Redactor
from tokenloom.runtime.sampling import SamplingParams
from tokenloom.runtime.steps import Agent, AskSettings, Program
from tokenloom.runtime.values import Value


@dataclass(frozen=True, slots=True)
class Where:
    """A point of a run: `path` sorts by program order, `indices` are those of the iterations."""

    path: tuple[int, ...] = ()
    indices: tuple[int, ...] = ()

    def step(self, index: int) -> Where:
        """Return the place of a step of the block here."""
        return Where((*self.path, index), self.indices)

    def iteration(self, *index: int) -> Where:
        """Return the place of the body of an iteration."""
        return Where((*self.path, *index), (*self.indices, *index))


class Answerer(Protocol):
    """Who answers asks, by the symbol of the model."""

    def encoder(self, model: str) -> Encoder:
        """Return the tokenizer of a model."""
        ...

    def max_context(self, model: str) -> int:
        """Return how many tokens a prompt and its answer may have."""
        ...

    async def answer(
        self,
        conversation: Conversation,
        ask: AskSettings,
        sampling: SamplingParams,
        on_text: Callable[[str], None],
    ) -> Answer:
        """Return the answer behind a conversation. Raises RunError."""
        ...


class Asker:
    """`records` are in the order in which answers came."""

    def __init__(
        self,
        program: Program,
        answerer: Answerer,
        redactor: Redactor,
        seed: int,
        listener: Listener,
    ):
        self.records: list[AskRecord] = []
        self.redactor = redactor
        self._program = program
        self._answerer = answerer
        self._seed = seed
        self._listener = listener
        self._num_asks = 0

    def extend(self, conversation: Conversation, parts: list[Value], place: str) -> Conversation:
        """Return the conversation with parts behind it. Raises RunError for what is no text."""
        encoder = self._answerer.encoder(conversation.model)
        try:
            return conversation.extend(parts, encoder, self.redactor)
        except ModelError as error:
            raise RunError(str(error), place) from error

    async def ask(
        self, conversation: Conversation, agent: Agent, ask: AskSettings, where: Where
    ) -> tuple[Value, Conversation]:
        """Return the value of the answer, and the conversation behind it. Raises RunError."""
        spec = self._program.agents[agent.name]
        if conversation.links and not spec.may_link:
            message = f"{agent.name} says `reuse = exact`, but its prompt has a linked run"
            raise RunError(f"{message}: this is a fault of the compiler", ask.place)
        sampling = sampling_params(spec, ask, self._seed, where.indices)
        check_fits(conversation, ask, self._answerer.max_context(conversation.model))
        label = label_of(agent.name, agent.arguments, self.redactor)
        start = AskStart(self._num_asks, agent.name, ask.place, label)
        self._num_asks += 1
        self._listener.ask_started(start)

        def on_text(text: str) -> None:
            shown = MASK if conversation.is_secret else self.redactor.scrub(text)
            self._listener.ask_text(start, shown)

        start_ns = time.perf_counter_ns()
        answer = await self._answerer.answer(conversation, ask, sampling, on_text)
        times_ns = start_ns, time.perf_counter_ns()
        record = make_record(start, conversation, answer, self.redactor, times_ns, where.path)
        self.records.append(record)
        self._listener.ask_done(start, record)
        return parse(ask.answer_type, answer.text, ask.place), answer.conversation
