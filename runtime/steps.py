"""A workflow as plain steps: what `program` decodes from IR, and executor and reference run.

A slot is the number of a value in its workflow; a block binds its argument slots anew each time it
is run. It knows nothing of IR, futures, engines or models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenloom.models.answers import AnswerType
from tokenloom.runtime.executable import ModelExecutable
from tokenloom.runtime.tools import ToolSpec

Slot = int
Slots = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent: its class and what it was made with. Its history is a value of its own."""

    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A fixed piece of a prompt with its token ids."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Steps in program order; `results` are what its terminator gives on."""

    arguments: Slots
    steps: tuple[Step, ...]
    results: Slots


@dataclass(frozen=True, slots=True)
class ConstantStep:
    """A value known beforehand."""

    value: Any
    result: Slot


@dataclass(frozen=True, slots=True)
class ComputeStep:
    """A pure function of values.

    With `is_deep` it needs its operands with all that is in them, else it looks at their outside
    alone: a list whose elements are not there yet will do.
    """

    function: Callable[..., Any]
    operands: Slots
    result: Slot
    place: str
    is_deep: bool


@dataclass(frozen=True, slots=True)
class SpawnStep:
    """A new agent of a class."""

    agent: str
    operands: Slots
    result: Slot


@dataclass(frozen=True, slots=True)
class ParamStep:
    """An argument that an agent was made with."""

    agent: Slot
    param: str
    result: Slot


@dataclass(frozen=True, slots=True)
class IfStep:
    """One of two blocks."""

    condition: Slot
    then: Block
    otherwise: Block
    results: Slots


@dataclass(frozen=True, slots=True)
class ForStep:
    """A counted loop; the body takes the counter and what is carried, and gives the next."""

    lower: Slot
    upper: Slot
    stride: Slot
    initial: Slots
    body: Block
    results: Slots


@dataclass(frozen=True, slots=True)
class WhileStep:
    """`before` gives a condition and values; while it holds, `after` makes the next from them."""

    initial: Slots
    before: Block
    after: Block
    results: Slots


@dataclass(frozen=True, slots=True)
class MapStep:
    """The body for each item; it takes item, index and what is carried."""

    items: Slot
    carried: Slots
    body: Block
    lists: Slots
    last: Slots


@dataclass(frozen=True, slots=True)
class GatherStep:
    """All-gather rounds; the body takes member, history, others, round; gives output, history.

    `shared` is done once a round, with member and history of the first; what it gives follows the
    body's own arguments.
    """

    members: Slot
    histories: Slot
    rounds: Slot
    body: Block
    outputs: Slot
    next: Slot
    shared: Block | None = None


@dataclass(frozen=True, slots=True)
class CallStep:
    """A tool call; an effect also takes the order of effects and gives it on."""

    tool: str
    operands: Slots
    result: Slot
    place: str
    token: Slot | None = None
    next: Slot | None = None


@dataclass(frozen=True, slots=True)
class CheckStep:
    """Fail with the message unless the condition holds; without a condition, always."""

    condition: Slot | None
    message: Slot
    place: str


@dataclass(frozen=True, slots=True)
class AskSettings:
    """What an ask says itself; None where the agent's setting holds.

    `ordinal` tells asks of the same place apart that were one before a workflow was inlined.
    """

    max_tokens: int
    answer_type: AnswerType
    place: str
    close_tokens: tuple[int, ...]
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    ordinal: int = 0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class AskStep:
    """An ask of `flow`: history and prompt parts to answer and next history."""

    agent: Slot
    history: Slot
    parts: Slots
    settings: AskSettings
    answer: Slot
    next: Slot


@dataclass(frozen=True, slots=True)
class HistoryStep:
    """The history of an agent that was not asked yet."""

    agent: Slot
    result: Slot


@dataclass(frozen=True, slots=True)
class RootStep:
    """The empty context of a model."""

    model: str
    result: Slot


@dataclass(frozen=True, slots=True)
class ExtendStep:
    """A context followed by parts."""

    context: Slot
    parts: Slots
    result: Slot
    place: str


@dataclass(frozen=True, slots=True)
class WindowStep:
    """A context's beginning and its last turns."""

    context: Slot
    turns: int
    result: Slot


@dataclass(frozen=True, slots=True)
class SliceStep:
    """What a context has behind another that it begins with, as a run."""

    context: Slot
    base: Slot
    result: Slot


@dataclass(frozen=True, slots=True)
class LinkStep:
    """A context followed by a run."""

    context: Slot
    run: Slot
    result: Slot


@dataclass(frozen=True, slots=True)
class SubmitStep:
    """An ask of `exec`: decode behind a context. The ticket stands for the request."""

    context: Slot
    agent: Slot
    settings: AskSettings
    ticket: Slot


@dataclass(frozen=True, slots=True)
class AwaitStep:
    """What a request gives: its answer, the context behind it, and the event of its end."""

    ticket: Slot
    answer: Slot
    next: Slot
    done: Slot


@dataclass(frozen=True, slots=True)
class MoveStep:
    """A context that is wanted in another tier, after the events."""

    context: Slot
    after: Slots
    moved: Slot
    done: Slot


@dataclass(frozen=True, slots=True)
class ReleaseStep:
    """A context that nothing reads any more once the events are done."""

    context: Slot
    after: Slots


Step = (
    ConstantStep
    | ComputeStep
    | SpawnStep
    | ParamStep
    | IfStep
    | ForStep
    | WhileStep
    | MapStep
    | GatherStep
    | CallStep
    | CheckStep
    | AskStep
    | HistoryStep
    | RootStep
    | ExtendStep
    | WindowStep
    | SliceStep
    | LinkStep
    | SubmitStep
    | AwaitStep
    | MoveStep
    | ReleaseStep
)


@dataclass(frozen=True)
class AgentSpec:
    """A class of agents. `history` is the number of turns kept, -1 for all.

    `may_link` says that its contexts may have runs computed for others (`reuse = linked`).
    `system` gives the parts of the system turn; it is decoded for `flow` only.
    """

    name: str
    model: str
    params: tuple[str, ...]
    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    importance: int
    history: int
    may_link: bool = False
    system: Block | None = None


@dataclass(frozen=True)
class Workflow:
    """An entry point; its first result is its value.

    `inputs` are `{"name", "type", "default"?}` with answer types.
    """

    name: str
    inputs: tuple[Mapping[str, Any], ...]
    result: AnswerType
    body: Block


@dataclass(frozen=True)
class Program:
    """A decoded module. `models` are registry names or paths by symbol.

    `executables` and `digests` (of the weights) are there after lowering to `exec`.
    """

    models: Mapping[str, str]
    agents: Mapping[str, AgentSpec]
    tools: Mapping[str, ToolSpec]
    workflows: Mapping[str, Workflow]
    executables: Mapping[str, ModelExecutable]
    digests: Mapping[str, str]
