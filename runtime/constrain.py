"""Constrained decoding: every answer parses, within its budget of tokens.

llguidance says which tokens may come next. Beside it runs an automaton that knows the shortest way
to the end: a token is taken only if that way still fits into the budget behind it; otherwise the
shortest completion is what follows. It knows nothing of batches or devices.
"""

# pyright: reportUnknownMemberType=false
# (llguidance's stubs leave the element types of lists open)
from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from tokenloom.models.answers import AnswerType, answer_pattern, spell
from tokenloom.models.automaton import EMPTY, Expression, advance
from tokenloom.models.patterns import Pattern, to_expression, to_regex
from tokenloom.models.tokenizer import Tokenizer
from tokenloom.runtime.sampling import SamplingParams, sample

Logits = NDArray[np.float32]


class ConstraintError(Exception):
    """The answer type cannot be met: its shortest answer is too long, or its grammar too large."""


class _Vocabulary:
    """A tokenizer as llguidance wants to see it."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, num_tokens: int, eos_id: int):
        self._tokenizer = tokenizer
        self.eos_token_id = eos_id
        known = min(num_tokens, tokenizer.vocab_size)
        self.tokens = [tokenizer.token_bytes(i) for i in range(known)]
        self.tokens += [b""] * (num_tokens - known)
        self.special_token_ids = [i for i in range(known) if tokenizer.is_special(i)]

    def __call__(self, text: str | bytes) -> list[int]:
        data = text if isinstance(text, bytes) else text.encode()
        return self._tokenizer.encode(data.decode("utf-8", "replace"))


class Grammars:
    """Makes the constraints of one vocabulary; what can be shared between them is.

    `vocab_size` is the width of the logits. Safe to use from several threads.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_ids: Sequence[int]):
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.eos_ids = frozenset(eos_ids)
        wrapper = TokenizerWrapper(_Vocabulary(tokenizer, vocab_size, eos_ids[0]))
        self._vocabulary = LLTokenizer(wrapper, n_vocab=vocab_size, eos_token=list(eos_ids))

    def constrain(self, answer: AnswerType, max_tokens: int) -> Constraint:
        """Return the constraint of one answer. Raises ConstraintError, RegexError."""
        return self.constrain_to(answer_pattern(answer), max_tokens)

    def constrain_to(self, pattern: Pattern, max_tokens: int) -> Constraint:
        """Return the constraint to texts of `pattern`. Raises ConstraintError."""
        grammar = LLMatcher.grammar_from_regex(to_regex(pattern))
        matcher = LLMatcher(self._vocabulary, grammar, log_level=0)
        if matcher.is_error():
            raise ConstraintError(f"the answer's grammar is refused: {matcher.get_error()}")
        return Constraint(self, matcher, to_expression(pattern), max_tokens)


class Constraint:
    """The state of one constrained answer.

    `choose` is called once for each token, in order. `finished` says that nothing can follow any
    more, so that generation may end without an end-of-turn token.
    """

    def __init__(
        self, grammars: Grammars, matcher: LLMatcher, expression: Expression, max_tokens: int
    ):
        self._grammars = grammars
        self._matcher = matcher
        self._rest = expression
        self._num_left = max_tokens
        self._forced: deque[int] = deque()
        needed = len(self._completion(expression))
        if needed > max_tokens:
            raise ConstraintError(
                f"the shortest answer has {needed} tokens and max is {max_tokens}: raise max"
            )

    @property
    def finished(self) -> bool:
        """Whether the answer is complete and nothing may be added to it."""
        return not self._forced and self._rest.complete

    def choose(self, logits: Logits, params: SamplingParams, step: int) -> int:
        """Return the next token's id: an end-of-turn id where the answer ends here."""
        if not self._forced:
            token = self._draw(logits, params, step)
            if token in self._grammars.eos_ids:
                return token
            if self._accept(token):
                return token
            self._forced.extend(self._completion(self._rest))
            if not self._forced:
                return min(self._grammars.eos_ids)
            self._rest = EMPTY
        self._num_left -= 1
        return self._forced.popleft()

    def _draw(self, logits: Logits, params: SamplingParams, step: int) -> int:
        packed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(packed, count=len(logits), bitorder="little")
        masked = np.where(allowed, logits, np.float32(-np.inf))
        return sample(masked, params, step)

    def _accept(self, token: int) -> bool:
        """Take the token if the shortest way on from it fits; otherwise change nothing."""
        rest = advance(self._rest, self._grammars.tokenizer.token_bytes(token))
        if rest.shortest is None:
            raise ConstraintError(f"token {token} is allowed by the mask but leads nowhere")
        left = self._num_left - 1
        # No completion has more tokens than bytes, so most need not be tokenized.
        if len(rest.shortest) > left and len(self._completion(rest)) > left:
            return False
        if not self._matcher.consume_token(token):
            raise ConstraintError(f"token {token} was refused: {self._matcher.get_error()}")
        self._rest = rest
        self._num_left = left
        return True

    def _completion(self, rest: Expression) -> list[int]:
        return spell(rest.shortest or b"", self._grammars.tokenizer)
