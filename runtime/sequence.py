"""A request on its way through the engine: its tokens, its pages, its answer so far.

It knows nothing of other requests.
"""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np

from tokenloom.models.tokenizer import Tokenizer
from tokenloom.runtime.answer_text import AnswerText
from tokenloom.runtime.kv_path import KvPath
from tokenloom.runtime.pages import IntArray
from tokenloom.runtime.policies.contract import RequestView
from tokenloom.runtime.request import FinishReason, Request
from tokenloom.runtime.run_store import StoredRun
from tokenloom.runtime.sampling import FloatArray, sample


class Sequence:
    """`ids[:num_ids]` are prompt and answer; `path` says how far they have KV.

    `links` are the runs among them and `runs` what the engine has of each; `held` are the pages of
    those ahead of the path, so that none is lost on the way. With `fills` there is no answer: the
    end of the ids is a run to compute, behind the ids before it.
    """

    def __init__(
        self,
        id: int,
        request: Request,
        tokenizer: Tokenizer,
        now_ns: int,
        fills: StoredRun | None = None,
    ):
        self.id = id
        self.request = request
        self.fills = fills
        self.links = request.context.links + request.links
        self.runs: tuple[StoredRun, ...] = ()
        self.held: list[int] = []
        self.future: Future[object] = Future()
        history = request.context.token_ids
        self.num_prompt = len(history) + len(request.new_ids)
        self._ids: IntArray = np.empty(self.num_prompt + request.sampling.max_tokens, np.int32)
        self._ids[: len(history)] = history
        self._ids[len(history) : self.num_prompt] = request.new_ids
        self.num_ids = self.num_prompt
        self.path: KvPath | None = None
        self.num_reused: int | None = None
        self.num_linked_reused = 0
        self.submitted_ns = now_ns
        self.started_ns: int | None = None
        self.first_token_ns: int | None = None
        self.finish_reason: FinishReason | None = None
        stop = () if request.constraint else request.sampling.stop
        self.answer = AnswerText(tokenizer, stop)
        self.view = RequestView(
            id,
            request.name,
            request.priority,
            now_ns,
            self.num_prompt,
            request.sampling.max_tokens,
            num_to_compute=self.num_prompt,
        )

    @property
    def ids(self) -> IntArray:
        """All tokens so far; a view."""
        return self._ids[: self.num_ids]

    @property
    def output_ids(self) -> tuple[int, ...]:
        """The generated tokens, without an end-of-turn token."""
        return tuple(self._ids[self.num_prompt : self.num_ids].tolist())

    @property
    def num_generated(self) -> int:
        """How many tokens the answer has."""
        return self.num_ids - self.num_prompt

    @property
    def num_to_compute(self) -> int:
        """How many tokens must be computed; the last one's logits give the next token."""
        path = self.path
        if path is None:
            return self.num_ids - sum(len(link.run) for link in self.links)
        if self.is_in_last_run(path):
            return self.num_ids - path.table.num_tokens
        return sum(self.lengths_ahead(path))

    @property
    def is_decoding(self) -> bool:
        """Whether the last generated token is all that has no KV."""
        return self.path is not None and self.num_generated > 0 and self.num_to_compute == 1

    def is_in_last_run(self, path: KvPath) -> bool:
        """Say whether no boundary is ahead, as is always so while decoding."""
        return path.num_linked == len(self.links) and (self.fills is None or path.fills)

    def lengths_ahead(self, path: KvPath) -> list[int]:
        """Return how many tokens are to be computed in each run, from that which `path` ends in.

        Between them are the runs to link, and before the last the end of the head, with `fills`.
        """
        lengths: list[int] = []
        position = path.table.num_tokens
        for link in self.links[path.num_linked :]:
            lengths.append(link.start - position)
            position = link.end
        if self.fills is not None and not path.fills:
            lengths.append(len(self.request.context) - position)
            position = len(self.request.context)
        return [*lengths, self.num_ids - position]

    def refresh_view(self) -> RequestView:
        """Bring the view up to date and return it."""
        view = self.view
        view.num_to_compute = self.num_to_compute
        view.num_generated = self.num_generated
        view.num_pages = self.path.table.num_pages if self.path else 0
        return view

    def take_logits(self, logits: FloatArray, eos_ids: frozenset[int], now_ns: int) -> None:
        """Choose the next token, and see whether the answer ends; report its text."""
        request = self.request
        if self.first_token_ns is None:
            self.first_token_ns = now_ns
        step = self.num_generated
        if request.constraint:
            token = request.constraint.choose(logits, request.sampling, step)
        else:
            token = sample(logits, request.sampling, step)
        if token in eos_ids:
            self._finish("eos")
            return
        self._ids[self.num_ids] = token
        self.num_ids += 1
        self._report(self.answer.push(token))
        if self.answer.stopped:
            self._finish("stop")
        elif request.constraint and request.constraint.finished:
            self._finish("answer")
        elif self.num_generated == request.sampling.max_tokens:
            self._finish("max")

    def _finish(self, reason: FinishReason) -> None:
        self.finish_reason = reason
        self._report(self.answer.finish())

    def _report(self, text: str) -> None:
        if text and self.request.on_token:
            self.request.on_token(text)
