"""The text of a growing answer: whole characters only, and nothing of a stop text.

It knows nothing of how tokens are chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenloom.models.tokenizer import Tokenizer


class AnswerText:
    """Text so far. What might still become a stop text is not given out yet."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()):
        self._decoder = tokenizer.stream()
        self._stop = stop
        self._held_back = max(map(len, stop), default=1) - 1
        self._num_given = 0
        self.text = ""
        self.stopped = False

    def push(self, token_id: int) -> str:
        """Add a token; return the text that became certain by it."""
        self._extend(self._decoder.push(token_id))
        return self._give(len(self.text) - (0 if self.stopped else self._held_back))

    def finish(self) -> str:
        """End the answer; return the rest of its text."""
        if not self.stopped:
            self._extend(self._decoder.finish())
        return self._give(len(self.text))

    def _extend(self, new: str) -> None:
        first = max(0, len(self.text) - self._held_back)
        self.text += new
        found = [self.text.find(stop, first) for stop in self._stop]
        cuts = [place for place in found if place >= 0]
        if cuts:
            self.text = self.text[: min(cuts)]
            self.stopped = True

    def _give(self, end: int) -> str:
        given = self.text[self._num_given : max(end, self._num_given)]
        self._num_given += len(given)
        return given
