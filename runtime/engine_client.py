"""Answers asks with engines: turns conversations into requests, and waits on the event loop."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache

from tokenloom.backends.device import DeviceError
from tokenloom.models.answers import is_free_text
from tokenloom.models.registry import Model
from tokenloom.runtime.asks import Answer
from tokenloom.runtime.constrain import Constraint, ConstraintError, Grammars
from tokenloom.runtime.conversation import Conversation, Encoder
from tokenloom.runtime.engine import Engine, EngineError
from tokenloom.runtime.errors import ContextOverflow, RunError
from tokenloom.runtime.request import Completion, ContextHandle, Request
from tokenloom.runtime.sampling import SamplingError, SamplingParams
from tokenloom.runtime.steps import AskSettings

_CACHED_TEXTS = 4096


class Lease:
    """An engine's context, held as long as some conversation has it."""

    __slots__ = ("__weakref__", "context")

    def __init__(self, context: ContextHandle):
        self.context = context


class CachedEncoder:
    """A tokenizer that remembers texts: many agents read the same ones."""

    def __init__(self, model: Model):
        self.encode = lru_cache(_CACHED_TEXTS)(model.tokenizer.encode)


class _ModelClient:
    """What is needed to ask one model."""

    def __init__(self, model: Model, engine: Engine):
        self.model = model
        self.engine = engine
        self.encoder: Encoder = CachedEncoder(model)
        self.root = engine.root()
        self._grammars: Grammars | None = None
        self._dropped: deque[ContextHandle] = deque()

    def constraint(self, ask: AskSettings) -> Constraint | None:
        if is_free_text(ask.answer_type):
            return None
        if self._grammars is None:
            config = self.model.config
            self._grammars = Grammars(self.model.tokenizer, config.vocab_size, config.eos_ids)
        return self._grammars.constrain(ask.answer_type, ask.max_tokens)

    def lease(self, context: ContextHandle) -> Lease:
        lease = Lease(context)
        # A finalizer may run in any thread, even inside the engine, so it only takes a note.
        weakref.finalize(lease, self._dropped.append, context).atexit = False
        return lease

    def release_dropped(self) -> None:
        while self._dropped:
            self.engine.release(self._dropped.popleft())


class EngineAnswerer:
    """Answers with an engine for each model, by symbol. The engines stay the caller's."""

    def __init__(self, models: Mapping[str, Model], engines: Mapping[str, Engine]):
        self._clients = {name: _ModelClient(models[name], engines[name]) for name in engines}

    def encoder(self, model: str) -> Encoder:
        """Return the tokenizer of a model."""
        return self._clients[model].encoder

    def max_context(self, model: str) -> int:
        """Return the length of a model's context."""
        return self._clients[model].model.config.max_context

    async def answer(
        self,
        conversation: Conversation,
        ask: AskSettings,
        sampling: SamplingParams,
        on_text: Callable[[str], None],
    ) -> Answer:
        """Submit a request and wait for it; cancelling cancels the request."""
        client = self._clients[conversation.model]
        client.release_dropped()
        try:
            completion = await _complete(client, conversation, ask, sampling, on_text)
        except ContextOverflow as error:
            raise ContextOverflow(error.message, ask.place) from error
        except (ConstraintError, DeviceError, EngineError, SamplingError) as error:
            raise RunError(str(error), ask.place) from error
        ending = completion.output_ids + ask.close_tokens
        return Answer(
            completion.output_ids,
            completion.text,
            conversation.close(ending, client.lease(completion.context)),
            completion.reused_prefix_tokens,
            completion.reused_linked_tokens,
        )


async def _complete(
    client: _ModelClient,
    conversation: Conversation,
    ask: AskSettings,
    sampling: SamplingParams,
    on_text: Callable[[str], None],
) -> Completion:
    loop = asyncio.get_running_loop()
    lease = conversation.lease
    is_known = isinstance(lease, Lease)
    context, new_ids = client.root, conversation.ids
    if is_known:
        context, new_ids = lease.context, conversation.open
    request = Request(
        context,
        new_ids,
        sampling,
        client.constraint(ask),
        ask.close_tokens,
        links=conversation.links[len(context.links) :],
        segments=tuple(len(piece) for piece in conversation.pieces),
        on_token=lambda text: _hand_over(loop, on_text, text),
        priority=ask.priority,
        name=ask.place,
    )
    return await asyncio.wrap_future(client.engine.submit(request))


def _hand_over(loop: asyncio.AbstractEventLoop, on_text: Callable[[str], None], text: str) -> None:
    loop.call_soon_threadsafe(on_text, text)
