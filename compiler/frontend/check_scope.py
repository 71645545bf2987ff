"""Local names and bodies: what is visible where, and what a body does to what is around it.

Knows nothing of types beyond carrying them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field

from tokenloom.compiler.frontend.checked import (
    AgentRoot,
    AgentSymbol,
    BodyInfo,
    Constant,
    Local,
    LocalKind,
)
from tokenloom.compiler.frontend.syntax import Expr, Node
from tokenloom.compiler.frontend.types import Type

Roots = dict[AgentRoot | None, None]
"""An ordered set of where agents come from; None is a new instance made on the spot."""

_ITERATED = (LocalKind.LOOP, LocalKind.MEMBER)


@dataclass(eq=False)
class Frame:
    """A body being checked; `depth` is that of the locals declared in it.

    `parallel` names the form (`map`, `gather` ...) whose runs of this body overlap; it may not
    assign, return or ask what is outside. `asks` keeps the first node for each root.
    """

    depth: int
    parallel: str = ""
    assigns: dict[Local, None] = field(default_factory=dict[Local, None])
    reads: dict[Local, None] = field(default_factory=dict[Local, None])
    asks: dict[AgentRoot, Node] = field(default_factory=dict[AgentRoot, Node])
    calls_effects: bool = False
    returns: bool = False

    def info(self) -> BodyInfo:
        """Return what the finished body does."""
        return BodyInfo(
            tuple(self.assigns),
            tuple(self.reads),
            tuple(self.asks),
            self.calls_effects,
            self.returns,
        )


class Scopes:
    """The names and bodies around the place being checked."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.names: dict[str, Local] = {}
        self.narrowed: dict[Local, Type] = {}
        self.roots: dict[Local, Roots] = {}
        self.values: dict[Local, Expr] = {}
        self.constants: dict[Local, Constant] = {}
        self.bare_agents: dict[AgentSymbol, None] = {}
        self.declared: list[Local] = []
        self._shadowed: list[tuple[str, Local | None]] = []

    @property
    def depth(self) -> int:
        """The depth of a local declared here."""
        return len(self.frames)

    @contextmanager
    def body(self, parallel: str = "") -> Generator[Frame]:
        """Enter a body; its names are gone after it."""
        mark, narrowed = len(self._shadowed), dict(self.narrowed)
        frame = Frame(len(self.frames) + 1, parallel)
        self.frames.append(frame)
        try:
            yield frame
        finally:
            self.frames.pop()
            self.narrowed = narrowed
            self._forget(mark)

    def declare(self, local: Local) -> None:
        """Make a local visible from here to the end of the body."""
        self._shadowed.append((local.name, self.names.get(local.name)))
        self.names[local.name] = local
        self.declared.append(local)

    def _forget(self, mark: int) -> None:
        """Make the names what they were before the declarations since `mark`."""
        while len(self._shadowed) > mark:
            name, earlier = self._shadowed.pop()
            if earlier is None:
                del self.names[name]
            else:
                self.names[name] = earlier

    def read(self, local: Local) -> None:
        """Note that a local is read here."""
        local.is_used = True
        for frame in reversed(self.frames):
            if local.depth >= frame.depth:
                break
            frame.reads[local] = None

    def assign(self, local: Local) -> None:
        """Note that a var is assigned here."""
        for frame in reversed(self.frames):
            if local.depth >= frame.depth:
                break
            frame.assigns[local] = None

    def call_effect(self) -> None:
        """Note that a tool with effects is called here."""
        for frame in self.frames:
            frame.calls_effects = True

    def return_(self) -> None:
        """Note that the workflow returns here."""
        for frame in self.frames:
            frame.returns = True

    def ask(self, roots: Iterable[AgentRoot | None], node: Node) -> None:
        """Note that agents of these roots are asked here, body by body outwards."""
        current = dict.fromkeys(roots)
        for frame in reversed(self.frames):
            outside: Roots = {}
            for root in current:
                if root is None:
                    continue
                if not isinstance(root, Local) or root.depth < frame.depth:
                    frame.asks.setdefault(root, node)
                    outside[root] = None
                elif root.kind in _ITERATED and root.depth == frame.depth:
                    frame.asks.setdefault(root, node)
                    outside |= self.roots.get(root, {})
            current = outside

    def roots_of(self, local: Local) -> Roots:
        """Return where the agents of a local come from, seen from here."""
        if local.kind in (LocalKind.PARAMETER, *_ITERATED):
            return {local: None}
        known = self.roots.get(local, {})
        own: Roots = {local: None} if None in known or local.is_var else {}
        return own | {root: None for root in known if root is not None}
