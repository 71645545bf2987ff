"""The computation of runs: one sequence for each run that somebody waits for, and never two.

It knows nothing of when they are computed: they queue as requests do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from tokenloom.models.tokenizer import Tokenizer
from tokenloom.runtime.request import ContextHandle, Request
from tokenloom.runtime.run_store import StoredRun
from tokenloom.runtime.sampling import SamplingParams
from tokenloom.runtime.sequence import Sequence


class RunFills:
    """Makes the sequences that compute runs; `next_id` numbers them among the requests.

    A run is computed behind its planned head, whatever becomes of the request that has this head.
    """

    def __init__(self, tokenizer: Tokenizer, next_id: Callable[[], int]):
        self._tokenizer = tokenizer
        self._next_id = next_id
        self._under_way: set[StoredRun] = set()

    def start(self, waiting: Sequence, missing: Iterable[StoredRun]) -> list[Sequence]:
        """Return sequences for those runs that nobody computes yet; they rank as `waiting` does."""
        made: list[Sequence] = []
        for stored in missing:
            if stored not in self._under_way:
                self._under_way.add(stored)
                made.append(self._sequence(waiting, stored))
        return made

    def end(self, sequence: Sequence) -> None:
        """Say that a sequence has computed its run, or never will."""
        if sequence.fills is not None:
            self._under_way.discard(sequence.fills)

    def _sequence(self, waiting: Sequence, stored: StoredRun) -> Sequence:
        run = waiting.links[waiting.runs.index(stored)].run
        head = ContextHandle(0, np.array(run.head_ids, np.int32), stored.root, run.head_links)
        request = Request(
            head,
            run.ids,
            SamplingParams(1),
            priority=waiting.request.priority,
            name=f"run for {waiting.request.name}",
        )
        arrival_ns = waiting.view.arrival_ns
        return Sequence(self._next_id(), request, self._tokenizer, arrival_ns, fills=stored)
