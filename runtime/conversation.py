"""A history of asks as a value: token ids by turn, and what is said since the last answer.

It knows nothing of pages: an engine's own context rides along as `lease`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol

from tokenloom.runtime.redaction import Redactor
from tokenloom.runtime.runs import Ids, Link, Run
from tokenloom.runtime.steps import Segment
from tokenloom.runtime.values import Value, segments


class Encoder(Protocol):
    """What is needed of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        ...


@dataclass(frozen=True, slots=True)
class Conversation:
    """A prompt of `model`: `head` (the system turn), finished `turns`, then the `open` turn.

    `pieces` are the segments that make up the open turn. `links` are the runs among all ids: their
    KV is taken over from where it was computed. `lease` is the engine's context of all
    that is finished, if it has one. `is_secret` says that a secret is in it somewhere.
    """

    model: str
    head: Ids = ()
    turns: tuple[Ids, ...] = ()
    pieces: tuple[Ids, ...] = ()
    links: tuple[Link, ...] = ()
    lease: object | None = None
    is_secret: bool = False

    @property
    def open(self) -> Ids:
        """The ids since the last answer."""
        return tuple(chain.from_iterable(self.pieces))

    @property
    def finished(self) -> Ids:
        """The ids up to the last answer's end."""
        return tuple(chain(self.head, chain.from_iterable(self.turns)))

    @property
    def ids(self) -> Ids:
        """All ids, in order."""
        return self.finished + self.open

    def extend(self, parts: Iterable[Value], encoder: Encoder, redactor: Redactor) -> Conversation:
        """Return the conversation with parts behind it; each text is tokenized on its own."""
        pieces, is_secret = list(self.pieces), self.is_secret
        for part in parts:
            if isinstance(part, Segment):
                pieces.append(part.tokens)
                continue
            for text in segments(part):
                pieces.append(tuple(encoder.encode(text)))
                is_secret = is_secret or redactor.hides(text)
        return replace(self, pieces=tuple(pieces), is_secret=is_secret)

    def run_behind(self, base: Conversation) -> Run:
        """Return what follows `base` in this conversation, as it is computed here."""
        head = base.ids
        return Run(head, base.links, self.ids[len(head) :], self.is_secret)

    def link(self, run: Run) -> Conversation:
        """Return the conversation with a run behind it; an empty run changes nothing."""
        if not run.ids:
            return self
        links = (*self.links, Link(len(self.ids), run))
        is_secret = self.is_secret or run.is_secret
        return replace(self, pieces=(*self.pieces, run.ids), links=links, is_secret=is_secret)

    def close(self, answer: Ids, lease: object | None = None) -> Conversation:
        """Return the conversation with the open turn ended by `answer`, end markers included."""
        turn = self.open + answer
        return replace(self, turns=(*self.turns, turn), pieces=(), lease=lease)

    def window(self, num_turns: int) -> Conversation:
        """Return the beginning and the last turns alone.

        Before the first answer all there is is the beginning.
        """
        if not self.turns:
            return replace(self, head=self.head + self.open, pieces=())
        if len(self.turns) <= num_turns:
            return self
        dropped = self.turns[: len(self.turns) - num_turns]
        start = len(self.head)
        end = start + sum(map(len, dropped))
        before = (link for link in self.links if link.end <= start)
        after = (link.moved(start - end) for link in self.links if link.start >= end)
        kept = self.turns[len(dropped) :]
        return replace(self, turns=kept, links=(*before, *after), lease=None)
