"""Chat templates as fixed marker texts, found by rendering sentinels in a sandbox.

A prompt is then the markers and the texts side by side, so that a longer conversation always
begins with the shorter one, and every text can be a KV segment of its own. Knows nothing of
tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tokenloom.models.errors import ModelError

Message = tuple[str, str]  # role, content

# Contents of the probe turns: nothing in them occurs in a template by chance, and the last
# ones show whether a template escapes, folds case or drops white space inside a text.
_SYSTEM, _USER, _ANSWER, _SECOND = "Sx7qSystemZ", "Ux7qUserZ", "Ax7qAnswerZ", "Vx7qSecondZ"
_ODD = "Ox7q <b>&\"'\\ {{x}}\t{% y %}  \n\n é Ω Z"


@dataclass(frozen=True)
class _Markers:
    start: str
    system_open: str
    system_close: str
    user_open: str
    user_close: str
    assistant_open: str
    assistant_close: str
    default_system: str
    supports_system: bool


class ChatTemplate:
    """The marker texts of a model's chat template.

    A conversation is `start + [system_open + system + system_close]`, then for each turn
    `user_open + prompt + user_close + assistant_open + answer + assistant_close`. Without a
    system prompt there is no system turn, whatever the template would put in by default.
    Texts go in as they are: a template that only trims outer white space is accepted, and that
    white space stays. `supports_system` is false where the template refuses a system turn; its
    two markers are then empty and must not be used.
    """

    def __init__(
        self, source: str, model: str, *, bos_token: str = "", eos_token: str = ""
    ) -> None:
        """Find the markers of `source`, a jinja template.

        Raises ModelError, naming `model`, when it fails, alters texts or is not prefix-stable.
        """
        self.source = source
        self._renderer = _Renderer(source, model, bos_token, eos_token)
        found = _find_markers(self._renderer, bos_token)
        self.start = found.start
        self.system_open = found.system_open
        self.system_close = found.system_close
        self.user_open = found.user_open
        self.user_close = found.user_close
        self.assistant_open = found.assistant_open
        self.assistant_close = found.assistant_close
        self.supports_system = found.supports_system
        _verify(self._renderer, found)


class _Renderer:
    """One compiled template of one model."""

    def __init__(self, source: str, model: str, bos_token: str, eos_token: str) -> None:
        self.model = model
        self._names: dict[str, Any] = {
            "bos_token": bos_token,
            "eos_token": eos_token,
            "raise_exception": _raise_exception,
        }
        # The environment of transformers' apply_chat_template, except for the clock
        # (strftime_now): a prompt must not depend on the day.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            self.refuse(f"is not valid: {error}")

    def render(self, messages: list[Message], *, answer_next: bool = True) -> str:
        """Render `messages`, with the prompt for an answer if `answer_next`."""
        turns = [{"role": role, "content": content} for role, content in messages]
        try:
            return self._template.render(
                messages=turns, add_generation_prompt=answer_next, **self._names
            )
        except (TemplateError, TypeError, ValueError, KeyError, IndexError) as error:
            # A template is a program of the model's author: whatever it raises is its refusal.
            return self.refuse(f"fails: {error}")

    def refuse(self, reason: str) -> NoReturn:
        raise ModelError(f"the chat template of '{self.model}' {reason}")

    def split(self, messages: list[Message], *, answer_next: bool = True) -> list[str]:
        """Return the texts around the contents, which must all appear, in order."""
        rest = self.render(messages, answer_next=answer_next)
        pieces: list[str] = []
        for role, content in messages:
            before, found, rest = rest.partition(content)
            if not found:
                self.refuse(f"alters the text of a {role} turn, or leaves it out")
            pieces.append(before)
        return [*pieces, rest]


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _find_markers(renderer: _Renderer, bos_token: str) -> _Markers:
    turns = [("user", _USER), ("assistant", _ANSWER), ("user", _SECOND)]
    first, answer_next, between, last = renderer.split(turns)
    if last != answer_next:
        renderer.refuse("is not prefix-stable: it repeats an answer otherwise than it asked for it")
    closed = renderer.split(turns[:2], answer_next=False)[-1]
    user_open = _common_suffix(first, _without_prefix(between, closed))
    # A token that also opens every turn (SmolLM2 calls <|im_start|> its bos) starts nothing else.
    starts = first.startswith(bos_token) and not user_open.startswith(bos_token)
    start = bos_token if starts else ""
    assistant_close = between[: len(between) - len(user_open)]
    user_close = renderer.split(turns[:1], answer_next=False)[-1]
    if not answer_next.startswith(user_close):
        renderer.refuse("is not prefix-stable: asking for an answer changes what is before it")
    system = _find_system(renderer, start, user_open, answer_next)
    return _Markers(
        start=start,
        system_open=system[0] if system else "",
        system_close=system[1] if system else "",
        user_open=user_open,
        user_close=user_close,
        assistant_open=answer_next[len(user_close) :],
        assistant_close=assistant_close,
        default_system=first[len(start) : len(first) - len(user_open)],
        supports_system=system is not None,
    )


def _find_system(
    renderer: _Renderer, start: str, user_open: str, answer_next: str
) -> tuple[str, str] | None:
    """Return the markers of a system turn; None when the template raises on one."""
    messages = [("system", _SYSTEM), ("user", _USER)]
    try:
        renderer.render(messages)
    except ModelError:
        return None
    before, between, after = renderer.split(messages)
    if after != answer_next or not before.startswith(start):
        renderer.refuse("is not prefix-stable: a system turn changes the turns after it")
    if not user_open or not between.endswith(user_open):
        renderer.refuse("puts the system prompt inside a user turn")
    return before[len(start) :], between[: len(between) - len(user_open)]


def _verify(renderer: _Renderer, markers: _Markers) -> None:
    """Compose conversations from the markers and compare with what the template renders."""
    contents = [_SYSTEM, f"  {_SYSTEM} \n", _ODD]
    for content in contents:
        for num_turns in (1, 2, 4):
            messages: list[Message] = []
            for index in range(num_turns):
                messages.append(("user", f"{content}{index}{content}"))
                messages.append(("assistant", f"{content}{index + 10}{content}"))
            del messages[-1]
            _compare(renderer, markers, messages)
            if markers.supports_system:
                _compare(renderer, markers, [("system", content), *messages])


def _compare(renderer: _Renderer, markers: _Markers, messages: list[Message]) -> None:
    rendered = renderer.render(messages)
    trimmed = [(role, content.strip()) for role, content in messages]
    # Rows of the same template may trim some roles only, so each mixture is allowed.
    if rendered in _compositions(markers, messages, trimmed):
        return
    for _, content in trimmed:
        if content not in rendered:
            renderer.refuse("alters texts (it escapes, folds or rewrites them)")
    renderer.refuse("is not prefix-stable: its markers change with the length of a conversation")


def _compositions(markers: _Markers, messages: list[Message], trimmed: list[Message]) -> list[str]:
    """Compose the conversation with no role trimmed, and with each set of roles trimmed."""
    results: list[str] = []
    for bits in range(8):
        roles = {r for i, r in enumerate(("system", "user", "assistant")) if bits >> i & 1}
        mixed = [t if t[0] in roles else m for m, t in zip(messages, trimmed, strict=True)]
        results.append(_compose(markers, mixed))
    return results


def _compose(markers: _Markers, messages: list[Message]) -> str:
    around = {
        "system": (markers.system_open, markers.system_close),
        "user": (markers.user_open, markers.user_close),
        "assistant": (markers.assistant_open, markers.assistant_close),
    }
    has_system = messages[0][0] == "system"
    text = markers.start + ("" if has_system else markers.default_system)
    for role, content in messages:
        text += around[role][0] + content + around[role][1]
    return text + markers.assistant_open


def _common_suffix(left: str, right: str) -> str:
    pairs = zip(reversed(left), reversed(right), strict=False)
    size = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return left[len(left) - size :]


def _without_prefix(text: str, prefix: str) -> str:
    """`text` after `prefix`, or all of it when a turn closes otherwise if another follows."""
    return text[len(prefix) :] if text.startswith(prefix) else text
