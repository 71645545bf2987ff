"""What can be said of a value before the program runs: its tokens, its elements, what it waits for.

Sizes that the program leaves open are assumed; the constants say how. Knows nothing of ops.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from tokenloom.compiler.analysis.prefix_tree import PrefixNode

CHARACTERS_PER_TOKEN = 4
INPUT_TOKENS = 64
TOOL_TOKENS = 256
LIST_LENGTH = 4
SCALAR_TOKENS = 2
AT_START = -1

ASSUMPTIONS = (
    "an answer takes its whole token budget",
    "an unknown condition takes both ways, and a loop that waits for one runs to its bound",
    f"a text input has {INPUT_TOKENS} tokens, a tool's result {TOOL_TOKENS}, "
    f"a constant text one for {CHARACTERS_PER_TOKEN} characters",
    f"a list of unknown length has {LIST_LENGTH} elements",
)

Constant = bool | int | float | str


@dataclass(eq=False, slots=True)
class Estimate:
    """One value. `tokens` are those it takes in a prompt, `event` is what makes it ready.

    `key` tells equal texts: fixed texts have their content as key, any other value is equal to
    itself alone. Agents have their arguments as `fields`, contexts their `node`.
    """

    tokens: int = 0
    event: int = AT_START
    constant: Constant | None = None
    items: Sequence[Estimate] | None = None
    fields: Mapping[str, Estimate] | None = None
    classes: tuple[str, ...] = ()
    node: PrefixNode | None = None
    content: object = None

    @property
    def key(self) -> object:
        """What the prefix tree tells parts apart by."""
        return self if self.content is None else self.content

    def ready_after(self, event: int) -> Estimate:
        """Return the same value, ready at another time."""
        return Estimate(
            self.tokens,
            event,
            self.constant,
            self.items,
            self.fields,
            self.classes,
            self.node,
            self.content,
        )


def of_constant(value: Constant, event: int = AT_START) -> Estimate:
    """Return the estimate of a known value."""
    if isinstance(value, str):
        tokens = -(-len(value) // CHARACTERS_PER_TOKEN)
        return Estimate(tokens, event, value, content=("text", value))
    return Estimate(SCALAR_TOKENS, event, value)


def of_list(items: Sequence[Estimate], event: int) -> Estimate:
    """Return the estimate of a list: its elements with a line break between them."""
    breaks = max(0, len(items) - 1)
    return Estimate(sum(item.tokens for item in items) + breaks, event, items=items)


def of_type(kind: Mapping[str, Any], text_tokens: int, event: int = AT_START) -> Estimate:
    """Return the estimate of a value of an answer type, of whose texts each has `text_tokens`.

    A bounded integer is taken at its upper bound.
    """
    match kind["kind"]:
        case "text":
            most = kind.get("max")
            return Estimate(text_tokens if most is None else min(text_tokens, most), event)
        case "int" if kind.get("max") is not None:
            return Estimate(SCALAR_TOKENS, event, int(kind["max"]))
        case "record":
            pairs = [(name, of_type(field, text_tokens, event)) for name, field in kind["fields"]]
            tokens = sum(field.tokens + SCALAR_TOKENS for _, field in pairs)
            return Estimate(tokens, event, fields=dict(pairs))
        case "list":
            return of_list([of_type(kind["item"], text_tokens, event)] * LIST_LENGTH, event)
        case "optional":
            return of_type(kind["item"], text_tokens, event)
        case _:
            return Estimate(SCALAR_TOKENS, event)


def of_input(declared: Mapping[str, Any]) -> Estimate:
    """Return the estimate of a workflow's input: its default where it has one."""
    default = declared.get("default")
    return of_type(declared["type"], INPUT_TOKENS) if default is None else of_json(default)


def of_json(value: object) -> Estimate:
    """Return the estimate of JSON data."""
    if isinstance(value, list):
        return of_list([of_json(item) for item in cast("list[object]", value)], AT_START)
    if isinstance(value, dict):
        items = cast("dict[str, object]", value)
        fields = {name: of_json(item) for name, item in items.items()}
        text = json.dumps(items, ensure_ascii=False)
        return Estimate(-(-len(text) // CHARACTERS_PER_TOKEN), fields=fields)
    if isinstance(value, bool | int | float | str):
        return of_constant(value)
    return Estimate()
