"""What clients of the engine pass in and get back: contexts, requests, completions.

It knows nothing of how requests are scheduled or computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from tokenloom.runtime.kv_path import KvPath
from tokenloom.runtime.pages import IntArray
from tokenloom.runtime.reuse import Node
from tokenloom.runtime.runs import Link
from tokenloom.runtime.sampling import FloatArray, SamplingParams

FinishReason = Literal["eos", "max", "stop", "answer"]
"""`eos`: an end-of-turn token was drawn; `max`: the budget is used up; `stop`: a stop text came;
`answer`: the constrained answer is complete."""


class TokenChooser(Protocol):
    """Chooses the tokens of one answer instead of plain sampling; `Constraint` is the usual one."""

    @property
    def finished(self) -> bool:
        """Whether the answer is complete."""
        ...

    def choose(self, logits: FloatArray, params: SamplingParams, step: int) -> int:
        """Return the id of token number `step`; an end-of-turn id ends the answer.

        `logits` [vocab] are the caller's own. Called once for each token, in order.
        """
        ...


class ContextHandle:
    """A history of tokens: an immutable value that any number of requests may extend.

    `Engine.retain` and `Engine.release` count its holders. Its KV pages are a cache: the engine may
    take them when memory is short, and computes them again when they are needed. All but
    `token_ids` and `links`, the runs among them, is the engine's own.
    """

    __slots__ = ("id", "links", "path", "references", "root", "token_ids")

    def __init__(self, id: int, token_ids: IntArray, root: Node, links: tuple[Link, ...] = ()):
        token_ids.flags.writeable = False
        self.id = id
        self.token_ids = token_ids
        self.links = links
        self.root = root
        self.references = 1
        self.path: KvPath | None = None

    def __len__(self) -> int:
        return len(self.token_ids)

    def __repr__(self) -> str:
        return f"ContextHandle({self.id}, {len(self.token_ids)} tokens)"


@dataclass(frozen=True)
class Request:
    """One generation: `context` with `new_ids` behind it, then the answer, then `close_ids`.

    `links` say which of `new_ids` have the KV of a run; they count from the context's start.
    `segments` are the lengths of the pieces of `new_ids`, for statistics. With a `constraint` the
    stop texts are not used, since a cut answer would not parse. `on_token` gets the answer's text
    as it becomes certain, in the engine's thread: it must return at once. A higher `priority` goes
    first. `close_ids` end the turn in the resulting context, however generation ended.
    """

    context: ContextHandle
    new_ids: tuple[int, ...]
    sampling: SamplingParams
    constraint: TokenChooser | None = None
    close_ids: tuple[int, ...] = ()
    links: tuple[Link, ...] = ()
    segments: tuple[int, ...] = ()
    on_token: Callable[[str], None] | None = None
    priority: int = 0
    name: str = ""


@dataclass(frozen=True)
class Completion:
    """An answer. `context` is the whole history with it, held once for the client.

    `output_ids` are the ids as generated, without an end-of-turn id; `text` is what they say, cut
    before a stop text. `reused_prefix_tokens` of `prompt_ids` were in the KV cache as they stood,
    `reused_linked_tokens` were taken over from elsewhere: a run is counted by all that link it but
    the first. `ttft_ns` runs from the submission to
    the first token, `prefill_ns` from the first step to it, `decode_ns` from it to the end.
    """

    output_ids: tuple[int, ...]
    text: str
    context: ContextHandle
    prompt_ids: tuple[int, ...]
    reused_prefix_tokens: int
    reused_linked_tokens: int
    prefill_ns: int
    decode_ns: int
    ttft_ns: int
    finish_reason: FinishReason
