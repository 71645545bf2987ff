"""The engine: continuous batching of generations on one model, in a thread of its own.

Clients extend contexts, which are immutable values; the engine batches what is waiting, step by
step. It knows nothing of workflows, agents or tools.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition, Thread
from typing import cast

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.device import Device
from tokenloom.models.registry import Model
from tokenloom.runtime.contexts import Contexts
from tokenloom.runtime.errors import ContextOverflow
from tokenloom.runtime.executable import ModelExecutable
from tokenloom.runtime.kv_source import KvSource
from tokenloom.runtime.model_runner import ModelRunner
from tokenloom.runtime.pages import PagePool
from tokenloom.runtime.policies import POLICIES
from tokenloom.runtime.request import Completion, ContextHandle, FinishReason, Request
from tokenloom.runtime.reuse import Namespace, PrefixIndex
from tokenloom.runtime.run_fills import RunFills
from tokenloom.runtime.run_store import RunStore
from tokenloom.runtime.runs import pages_of
from tokenloom.runtime.scheduler import Limits, Scheduler, StepPlan
from tokenloom.runtime.sequence import Sequence


class EngineError(Exception):
    """The engine cannot serve a request, or a step failed; the cause is chained."""


class EngineClosed(EngineError):
    """The engine was closed before the request was done."""


@dataclass(frozen=True)
class StepReport:
    """What one step did, from planning to the new tokens.

    Times are `time.perf_counter_ns`; `run_ns` is the model's part of it. Pairs are those of a row
    and a token that it attends to, in one layer and head: the work of attention.
    """

    index: int
    start_ns: int
    end_ns: int
    run_ns: int
    num_decode_rows: int
    num_prefill_rows: int
    decode_pairs: int
    prefill_pairs: int
    num_running: int
    num_waiting: int
    num_preempted: int
    pages_used: int
    pages_free: int
    pages_cached: int


@dataclass(frozen=True)
class EngineOptions:
    """How an engine batches. None of these changes a token in mode `exact`.

    `max_batch` requests run at once; a step prefills at most `chunk_tokens` tokens. `num_pages`
    is the size of the KV pool. Without `prefix_reuse` every request computes its whole prompt.
    """

    max_batch: int = 16
    chunk_tokens: int = 256
    num_pages: int = 2048
    policy: str = "fcfs"
    prefix_reuse: bool = True
    on_step: Callable[[StepReport], None] | None = None


class Engine:
    """Serves generations of one model. All methods may be called from any thread.

    `devices` stay the caller's and must not be used meanwhile. Raises EngineError for options that
    cannot work, DeviceError where memory does not suffice.
    """

    def __init__(
        self,
        model: Model,
        executable: ModelExecutable,
        devices: Mapping[str, Device],
        options: EngineOptions | None = None,
    ):
        self._options = options or EngineOptions()
        self._check_options(executable)
        self._model = model
        self._executable = executable
        self._eos_ids = frozenset(model.config.eos_ids)
        self._runner = ModelRunner(
            model,
            executable,
            devices,
            max_batch=self._options.max_batch,
            num_pages=self._options.num_pages,
        )
        self._pool = PagePool(self._options.num_pages, executable.page_tokens)
        self._index = PrefixIndex(self._pool)
        self._runs = RunStore(self._pool)
        self._contexts = Contexts(self._pool)
        self._ids = itertools.count()
        index = self._index if self._options.prefix_reuse else None
        self._scheduler = Scheduler(
            self._pool,
            self._contexts,
            KvSource(self._pool, index, self._runs),
            RunFills(model.tokenizer, lambda: next(self._ids)),
            POLICIES[self._options.policy](),
            Limits(self._options.max_batch, self._options.chunk_tokens, executable.max_rows),
        )
        self._condition = Condition()
        self._closed = False
        self._num_steps = 0
        self._thread = Thread(target=self._work, name=f"engine-{model.name}", daemon=True)
        self._thread.start()

    def root(self, tenant: str = "") -> ContextHandle:
        """Return an empty context, held once; contexts of different tenants share no page."""
        space = Namespace(
            self._model.digest,
            self._executable.kv_dtype,
            json.dumps(self._executable.config.get("rope"), sort_keys=True),
            tenant,
        )
        with self._condition:
            return self._contexts.make(np.zeros(0, np.int32), self._index.root(space))

    def retain(self, context: ContextHandle) -> None:
        """Hold a context once more."""
        with self._condition:
            self._contexts.retain(context)

    def release(self, context: ContextHandle) -> None:
        """Let go of a context once; after the last time it cannot be used. Its KV may stay."""
        with self._condition:
            self._contexts.release(context)

    def submit(self, request: Request) -> Future[Completion]:
        """Queue a generation. Cancelling the future ends it at the next step.

        Raises ContextOverflow where prompt and answer exceed the model's context, EngineError where
        they exceed the whole KV pool or the ids are not of this model, EngineClosed.
        """
        self._check_request(request)
        with self._condition:
            if self._closed:
                raise EngineClosed("the engine is closed")
            self._contexts.retain(request.context)
            now_ns = time.perf_counter_ns()
            sequence = Sequence(next(self._ids), request, self._model.tokenizer, now_ns)
            self._scheduler.add(sequence)
            self._condition.notify()
        return cast("Future[Completion]", sequence.future)

    def check_integrity(self) -> None:
        """Raise PageError unless the books on pages agree."""
        with self._condition:
            self._pool.check_integrity()

    @property
    def num_pages_used(self) -> int:
        """Pages that contexts and running requests hold now."""
        with self._condition:
            return self._pool.num_used

    def close(self) -> None:
        """End all requests with EngineClosed and give the memory back; twice is fine."""
        with self._condition:
            if self._closed:
                return
            self._closed = True
            self._condition.notify()
        self._thread.join()
        self._runner.close()

    def _check_options(self, executable: ModelExecutable) -> None:
        options = self._options
        if options.policy not in POLICIES:
            raise EngineError(f"no policy {options.policy!r}; there are {', '.join(POLICIES)}")
        if min(options.max_batch, options.chunk_tokens, options.num_pages) < 1:
            raise EngineError("max_batch, chunk_tokens and num_pages must be at least 1")
        if options.max_batch > executable.max_rows:
            raise EngineError(
                f"max_batch {options.max_batch} exceeds the {executable.max_rows} rows of a step"
            )

    def _check_request(self, request: Request) -> None:
        config = self._model.config
        num_prompt, max_tokens = (
            len(request.context) + len(request.new_ids),
            request.sampling.max_tokens,
        )
        if num_prompt == 0:
            raise EngineError("the prompt is empty: there is no token to go on from")
        ids = (*request.new_ids, *request.close_ids)
        if not _fits_links(request):
            raise EngineError("a linked run has other tokens than the prompt at its place")
        if ids and not 0 <= min(ids) <= max(ids) < config.vocab_size:
            raise EngineError(f"a token id is outside of 0..{config.vocab_size - 1}")
        if num_prompt + max_tokens > config.max_context:
            raise ContextOverflow(
                f"the prompt has {num_prompt} tokens and the answer may have {max_tokens}:"
                f" together more than the {config.max_context} of model {self._model.name}"
            )
        links = request.context.links + request.links
        needed = pages_of(num_prompt + max_tokens, links, self._pool.page_tokens)
        if links and needed > self._runner.context_pages:
            raise EngineError(
                f"the prompt and its {len(links)} linked runs take {needed} KV pages, and a context"
                f" has at most {self._runner.context_pages}: link fewer and longer runs"
            )
        if needed > self._pool.num_pages:
            raise EngineError(
                f"the request needs {needed} KV pages and the pool has {self._pool.num_pages}:"
                " raise num_pages"
            )

    def _work(self) -> None:
        while True:
            try:
                plan = self._next_plan()
                if plan is None:
                    break
                self._step(plan)
            except Exception as error:
                # Whatever went wrong, no client may wait for ever.
                self._fail_all(error)
        self._fail_all(None)

    def _next_plan(self) -> StepPlan | None:
        """Wait for something to do; None when the engine is closed."""
        with self._condition:
            while not self._closed:
                self._drop_cancelled()
                plan = self._scheduler.plan(
                    time.perf_counter_ns(), stage=self._runner.needs_staging
                )
                if plan is not None:
                    return plan
                self._condition.wait()
        return None

    def _drop_cancelled(self) -> None:
        for sequence in self._scheduler.sequences:
            if sequence.future.cancelled():
                self._remove(sequence)

    def _remove(self, sequence: Sequence) -> None:
        self._scheduler.remove(sequence)
        self._contexts.release(sequence.request.context)

    def _step(self, plan: StepPlan) -> None:
        start_ns = time.perf_counter_ns()
        logits = self._runner.run(plan.batch)
        ran_ns = time.perf_counter_ns()
        failed = self._take_logits(plan, logits, ran_ns)
        done: list[tuple[Sequence, Completion]] = []
        with self._condition:
            self._scheduler.step_done()
            for sequence in failed:
                self._remove(sequence)
            for sequence in plan.logits_for:
                if sequence.finish_reason is not None and sequence not in failed:
                    done.append((sequence, self._complete(sequence, sequence.finish_reason)))
            report = self._report(plan, ran_ns - start_ns)
        for sequence, error in failed.items():
            if sequence.future.set_running_or_notify_cancel():
                sequence.future.set_exception(error)
        for sequence, completion in done:
            if sequence.future.set_running_or_notify_cancel():
                sequence.future.set_result(completion)
            else:
                self.release(completion.context)
        if self._options.on_step is not None:
            self._options.on_step(report)

    def _take_logits(
        self, plan: StepPlan, logits: NDArray[np.float32], now_ns: int
    ) -> dict[Sequence, Exception]:
        """Give each sequence its row; return those whose sampling or callback failed."""
        failed: dict[Sequence, Exception] = {}
        for row, sequence in enumerate(plan.logits_for):
            try:
                sequence.take_logits(logits[row], self._eos_ids, now_ns)
            except Exception as error:  # the request's own failure must not fail the others
                failed[sequence] = error
        return failed

    def _complete(self, sequence: Sequence, reason: FinishReason) -> Completion:
        now_ns = time.perf_counter_ns()
        first_ns = sequence.first_token_ns or now_ns
        completion = Completion(
            output_ids=sequence.output_ids,
            text=sequence.answer.text,
            prompt_ids=tuple(sequence.ids[: sequence.num_prompt].tolist()),
            context=self._contexts.from_sequence(sequence, keep_pages=self._options.prefix_reuse),
            reused_prefix_tokens=sequence.num_reused or 0,
            reused_linked_tokens=sequence.num_linked_reused,
            prefill_ns=first_ns - (sequence.started_ns or first_ns),
            decode_ns=now_ns - first_ns,
            ttft_ns=first_ns - sequence.submitted_ns,
            finish_reason=reason,
        )
        self._remove(sequence)
        return completion

    def _report(self, plan: StepPlan, run_ns: int) -> StepReport:
        self._num_steps += 1
        attended = plan.batch.inputs["positions"] + 1
        decode_pairs = int(attended[: plan.batch.num_decode].sum())
        return StepReport(
            index=self._num_steps - 1,
            start_ns=plan.start_ns,
            end_ns=time.perf_counter_ns(),
            run_ns=run_ns,
            num_decode_rows=plan.batch.num_decode,
            num_prefill_rows=plan.num_prefill_rows,
            decode_pairs=decode_pairs,
            prefill_pairs=int(attended.sum()) - decode_pairs,
            num_running=len(self._scheduler.running),
            num_waiting=len(self._scheduler.waiting),
            num_preempted=self._scheduler.num_preempted,
            pages_used=self._pool.num_used,
            pages_free=self._pool.num_free,
            pages_cached=self._pool.num_cached,
        )

    def _fail_all(self, cause: Exception | None) -> None:
        """Fail every request. What the index and idle contexts say of pages is no longer true."""
        with self._condition:
            self._scheduler.step_done()
            sequences = self._scheduler.sequences
            for sequence in sequences:
                self._remove(sequence)
            self._scheduler.remove_fills()
            self._index.clear()
            self._runs.clear()
            self._contexts.drop_all()
        for sequence in sequences:
            error: EngineError = EngineClosed("the engine was closed")
            if cause is not None:
                error = EngineError(f"an engine step failed: {cause}")
                error.__cause__ = cause
            if sequence.future.set_running_or_notify_cancel():
                sequence.future.set_exception(error)


def _fits_links(request: Request) -> bool:
    """Say whether the runs are where the new ids have their tokens, in order, with some behind."""
    position = first = len(request.context)
    for link in request.links:
        if (
            link.start < position
            or link.run.ids != request.new_ids[link.start - first : link.end - first]
        ):
            return False
        position = link.end
    return not request.links or position < first + len(request.new_ids)
