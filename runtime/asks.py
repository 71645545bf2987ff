"""Asks, as the executor and the reference interpreter share them: seeds, limits, records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenloom.models.answers import AnswerError, AnswerType, parse_answer
from tokenloom.runtime.conversation import Conversation
from tokenloom.runtime.errors import ContextOverflow, RunError
from tokenloom.runtime.redaction import MASK, Redactor
from tokenloom.runtime.runs import Ids
from tokenloom.runtime.sampling import SamplingError, SamplingParams, ask_seed
from tokenloom.runtime.steps import AgentSpec, AskSettings
from tokenloom.runtime.values import Value


@dataclass(frozen=True)
class AskStart:
    """An ask that begins; `id` tells it from others of the run, in the order of starting."""

    id: int
    agent: str
    place: str
    label: str


@dataclass(frozen=True)
class AskRecord:
    """A finished ask.

    `path` sorts asks by program order. Where a secret is in the prompt, the ids are empty and the
    text is masked. `start_ns` and `end_ns` are `time.perf_counter_ns`.
    """

    agent: str
    place: str
    prompt_ids: Ids
    output_ids: Ids
    text: str
    num_reused_prefix: int
    num_reused_linked: int
    num_prompt: int
    num_output: int
    start_ns: int
    end_ns: int
    label: str = ""
    path: Ids = field(default=(), repr=False)

    @property
    def ms(self) -> float:
        """Milliseconds from the request to its end."""
        return (self.end_ns - self.start_ns) / 1e6

    def to_json(self) -> dict[str, Any]:
        """Return what `run --json` prints of an ask."""
        return {
            "agent": self.agent,
            "place": self.place,
            "prompt_ids": list(self.prompt_ids),
            "output_ids": list(self.output_ids),
            "text": self.text,
            "reused": {"prefix": self.num_reused_prefix, "linked": self.num_reused_linked},
            "ms": round(self.ms, 3),
        }


@dataclass(frozen=True)
class Answer:
    """What a model said: the ids as generated, their text, and the conversation behind it."""

    output_ids: Ids
    text: str
    conversation: Conversation
    num_reused_prefix: int = 0
    num_reused_linked: int = 0


def sampling_params(
    agent: AgentSpec, ask: AskSettings, run_seed: int, indices: Sequence[int]
) -> SamplingParams:
    """Return how to choose tokens: what the ask says, else the agent; a seed likewise, else hashed.

    Raises RunError for a setting out of range.
    """
    seed = agent.seed if ask.seed is None else ask.seed
    if seed is None:
        seed = ask_seed(run_seed, ask.place, indices, ask.ordinal)
    try:
        return SamplingParams(
            max_tokens=ask.max_tokens,
            temperature=agent.temperature if ask.temperature is None else ask.temperature,
            top_p=agent.top_p if ask.top_p is None else ask.top_p,
            seed=seed % (1 << 64),
            stop=agent.stop if ask.stop is None else ask.stop,
        )
    except SamplingError as error:
        raise RunError(str(error), ask.place) from error


def check_fits(conversation: Conversation, ask: AskSettings, max_context: int) -> None:
    """Raise ContextOverflow unless prompt and answer fit into the model's context."""
    num_prompt = len(conversation.ids)
    if num_prompt + ask.max_tokens > max_context:
        raise ContextOverflow(
            f"the prompt has {num_prompt} tokens and `max = {ask.max_tokens}` more may follow, but "
            f"the context of the model holds {max_context}: shorten what is interpolated, lower "
            "`max`, or let the agent forget with `history = last(n)`",
            ask.place,
        )


def parse(answer_type: AnswerType, text: str, place: str) -> Value:
    """Return the value of an answer. Raises RunError where it does not parse."""
    try:
        return parse_answer(answer_type, text)
    except AnswerError as error:
        raise RunError(str(error), place) from error


def make_record(
    start: AskStart,
    conversation: Conversation,
    answer: Answer,
    redactor: Redactor,
    times_ns: tuple[int, int],
    path: Ids,
) -> AskRecord:
    """Return the record of a finished ask, masked where its prompt has a secret."""
    prompt_ids = conversation.ids
    is_secret = conversation.is_secret or redactor.hides(answer.text)
    return AskRecord(
        agent=start.agent,
        place=start.place,
        prompt_ids=() if is_secret else prompt_ids,
        output_ids=() if is_secret else answer.output_ids,
        text=MASK if is_secret else answer.text,
        num_reused_prefix=answer.num_reused_prefix,
        num_reused_linked=answer.num_reused_linked,
        num_prompt=len(prompt_ids),
        num_output=len(answer.output_ids),
        start_ns=times_ns[0],
        end_ns=times_ns[1],
        label=start.label,
        path=path,
    )


def label_of(name: str, arguments: Sequence[Value], redactor: Redactor) -> str:
    """Return how an agent is shown: its class, and its first argument if that is a short text."""
    first = arguments[0] if arguments else None
    if not isinstance(first, str) or not 0 < len(first) <= 40 or redactor.hides(first):
        return name
    return f"{name} {first}"
