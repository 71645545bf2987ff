"""Contexts as paths in a tree of parts: equal beginnings are one path, so sharing can be read off.

It counts tokens and knows nothing of ops or time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from xdsl.ir import Operation


@dataclass(eq=False, slots=True)
class PrefixNode:
    """A context that ends with one part; `tokens` counts the whole context.

    `op` made the part first. `shared` once a second extension came the same way, `computed` once
    a request has needed it. `answer` marks what a model generated, `system` the system prompt.
    `run` is the end of the context that the last part was computed in, if it is a linked run.
    """

    parent: PrefixNode | None
    key: object
    tokens: int
    op: Operation | None = None
    shared: bool = False
    computed: bool = False
    answer: bool = False
    system: bool = False
    run: PrefixNode | None = None
    children: dict[object, PrefixNode] = field(default_factory=dict[object, "PrefixNode"])

    @property
    def own_tokens(self) -> int:
        """Tokens of the last part alone."""
        return self.tokens - (self.parent.tokens if self.parent else 0)

    def child(self, key: object, tokens: int, op: Operation) -> PrefixNode:
        """Return the context with one more part; an equal one that is there already is shared."""
        found = self.children.get(key)
        if found is not None:
            found.shared = True
            return found
        made = PrefixNode(self, key, self.tokens + tokens, op)
        self.children[key] = made
        return made

    def path(self) -> Iterator[PrefixNode]:
        """Yield the node and those above it, the empty context last."""
        node: PrefixNode | None = self
        while node is not None:
            yield node
            node = node.parent

    def compute(self) -> PrefixNode:
        """Mark all of the context as computed; return the last node that already was."""
        node = self
        while not node.computed and node.parent is not None:
            node.computed = True
            node = node.parent
        return node

    def last_computed(self) -> PrefixNode:
        """Return the longest beginning of the context that is computed."""
        return next(node for node in self.path() if node.computed or node.parent is None)

    def window(self, turns: int, op: Operation) -> PrefixNode:
        """Return the system prompt followed by the last `turns` turns."""
        kept: list[PrefixNode] = []
        answers = 0
        for node in self.path():
            answers += node.answer
            if answers > turns or node.system or node.parent is None:
                break
            kept.append(node)
        base = next(node for node in self.path() if node.system or node.parent is None)
        for node in reversed(kept):
            moved = base.child(node.key, node.own_tokens, op)
            moved.answer = node.answer
            base = moved
        return base
