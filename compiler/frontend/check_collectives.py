"""Checks of `gather`, `map`, `race` and `first`, and where agents in values come from."""

from __future__ import annotations

from tokenloom.compiler.diagnostics import Note
from tokenloom.compiler.frontend import syntax as s
from tokenloom.compiler.frontend.check_core import Core
from tokenloom.compiler.frontend.check_operators import OperatorChecks
from tokenloom.compiler.frontend.check_scope import Frame, Roots
from tokenloom.compiler.frontend.check_session import help_note
from tokenloom.compiler.frontend.check_values import ValueChecks
from tokenloom.compiler.frontend.checked import (
    AgentSymbol,
    GatherInfo,
    Local,
    LocalKind,
)
from tokenloom.compiler.frontend.types import (
    NEVER,
    AgentType,
    IntType,
    ListType,
    Type,
    contains_agent,
    join,
    optional,
)

_MAX_GATHERS = 5
"""Gathers inside of each other: each body is checked twice for the type of `others`."""


class RootChecks(Core):
    """Which agents a value holds, as far as the source shows."""

    def roots(self, expr: s.Expr) -> Roots:
        """Return where the agents in the value of a checked expression come from."""
        match expr:
            case s.Name():
                binding = self.tables.names.get(expr)
                if isinstance(binding, Local):
                    return self.scopes.roots_of(binding)
                return {binding: None} if isinstance(binding, AgentSymbol) else {}
            case s.Field() if expr in self.tables.fields:
                symbol = self.tables.fields[expr]
                return {symbol: None} if isinstance(symbol, AgentSymbol) else {}
            case s.Field() | s.Index():
                return self.roots(expr.value)
            case s.Call():
                return self._call_roots(expr)
            case s.Map() | s.Gather():
                return self.block_roots.get(expr.body, {None: None})
            case _:
                return self._parts_roots(expr)

    def _call_roots(self, expr: s.Call) -> Roots:
        found: Roots = {None: None}
        for argument in expr.arguments:
            if contains_agent(self.tables.types.get(argument.value, NEVER)):
                found |= self.roots(argument.value)
        return found

    def _parts_roots(self, expr: s.Expr) -> Roots:
        match expr:
            case s.ListExpr():
                parts = expr.items
            case s.RecordExpr():
                parts = tuple(field.value for field in expr.fields)
            case s.Binary():
                parts = (expr.left, expr.right)
            case s.Race() | s.First():
                parts = expr.branches
            case _:
                parts = ()
        found: Roots = {}
        for part in parts:
            found |= self.roots(part)
        return found

    def duplicate_member(self, items: tuple[s.Expr, ...]) -> s.Expr | None:
        """Return the first item that is the same agent as one before it."""
        seen: set[object] = set()
        for item in items:
            if isinstance(item, s.Name | s.Field):
                binding = self.tables.names.get(item) if isinstance(item, s.Name) else None
                binding = self.tables.fields.get(item) if isinstance(item, s.Field) else binding
                if binding is not None and binding in seen:
                    return item
                seen.add(binding)
        return None


class CollectiveChecks(RootChecks, ValueChecks, OperatorChecks):
    """Bodies that run for several items or members, and branches that compete."""

    def _map(self, expr: s.Map, expected: Type | None) -> Type:
        item = self.items_of_body(expr.items, "what `map` goes over")
        with self.scopes.body("map") as frame:
            local = self.declare(expr.variable, LocalKind.LOOP, item, expr)
            self.bind_agents(local, expr.items)
            value = self._value_body(expr.body)
        self.tables.bodies[expr.body] = frame.info()
        self._check_parallel(frame, local)
        if local in frame.asks:
            self._check_duplicates(expr.items, "two iterations of a `map`")
        return ListType(value)

    def bind_agents(self, local: Local, value: s.Expr) -> None:
        """Remember where the agents in a local come from."""
        if contains_agent(local.type):
            self.scopes.roots[local] = self.roots(value)

    def _value_body(self, block: s.Block) -> Type:
        found = self.check_value_block(block)
        self.tables.value_types[block] = found
        outside: Roots = {}
        for root in self.block_roots.get(block, {}):
            if not isinstance(root, Local) or root.depth < self.scopes.depth:
                outside[root] = None
            elif root.kind in (LocalKind.LOOP, LocalKind.MEMBER):
                outside |= self.scopes.roots.get(root, {})
            else:
                outside[None] = None
        self.block_roots[block] = outside
        return found

    def _check_duplicates(self, items: s.Expr, where: str) -> None:
        visible = self.visible_items(items)
        again = self.duplicate_member(visible) if visible is not None else None
        if again is not None:
            here = help_note("make an instance for each: `Agent(...)`")
            shown = items if not isinstance(items, s.ListExpr) else again
            self.error(f"the same agent would be used in {where}", shown, here)

    def _check_parallel(self, frame: Frame, own: Local | None) -> None:
        """Report what runs of a body that overlap may not do."""
        form = frame.parallel
        for root, node in frame.asks.items():
            if root is not own:
                name = root.name
                help_ = help_note("make a new instance in the body, or use `for`")
                message = f"`{name}` is from outside of this `{form}`, whose parts run in parallel"
                self.error(f"{message}: it cannot be asked here", node, help_)

    # --- gather

    def _gather(self, expr: s.Gather, expected: Type | None) -> Type:
        if self.gathers_around == _MAX_GATHERS:
            return self.error(f"more than {_MAX_GATHERS} gathers inside of each other", expr)
        agents = self._members(expr)
        rounds = self._rounds(expr)
        if expr.timeout is not None and not self._is_positive_duration(expr.timeout):
            self.error("a timeout is a positive duration", expr.timeout, help_note("`timeout 5s`"))
        self.gathers_around += 1
        output = self._gather_body(expr, agents, rounds)
        self.gathers_around -= 1
        if contains_agent(output):
            help_ = help_note("end the body with what the member says: `x.ask(...)`")
            self.error("`gather` gives what is said in a round, not agents", expr.body, help_)
        return ListType(optional(output) if expr.timeout is not None else output)

    def _is_positive_duration(self, expr: s.Expr) -> bool:
        return isinstance(expr, s.Duration) and expr.nanoseconds > 0

    def _members(self, expr: s.Gather) -> AgentType:
        item = self.items_of_body(expr.agents, "what `gather` goes over")
        self._check_duplicates(expr.agents, "one `gather`")
        if isinstance(item, AgentType):
            return item
        if item != NEVER:
            self.error(f"`gather` is of agents, not of {item}", expr.agents)
        return AgentType(())

    def _rounds(self, expr: s.Gather) -> IntType:
        if expr.until is None and expr.rounds is None:
            help_ = help_note("write `for n`, or `until cond max n`")
            self.error("this `gather` has no number of rounds", expr, help_)
            return IntType(0, 1)
        if expr.until is not None and expr.rounds is not None:
            self.error("a `gather` has either `for n` or `until cond max n`", expr.until)
        count = expr.max_rounds if expr.until is not None else expr.rounds
        assert count is not None
        return self.bound_of(count, "the number of rounds")

    def _gather_body(self, expr: s.Gather, agents: AgentType, rounds: IntType) -> Type:
        mark = self.session.mark()
        member_type = agents if agents.names else NEVER
        output = self._look_at_gather(expr, member_type, rounds, NEVER)
        others = self.tables.gathers[expr].others
        if not others.is_used or output == NEVER:
            others.type = ListType(output)
            return output
        self.session.reset(mark)
        return self._look_at_gather(expr, member_type, rounds, output)

    def _look_at_gather(
        self, expr: s.Gather, member_type: Type, rounds: IntType, output: Type
    ) -> Type:
        """Check the body once, with a type for what it gave in the round before."""
        with self.scopes.body("gather") as frame:
            member = self.declare(expr.member, LocalKind.MEMBER, member_type, expr)
            member.is_used = True
            self.bind_agents(member, expr.agents)
            earlier = optional(output) if expr.timeout is not None else output
            others = self._implicit("others", LocalKind.OTHERS, ListType(earlier), expr)
            last = max(rounds.max or 1, 1)
            number = self._implicit("round", LocalKind.ROUND, IntType(1, last), expr)
            found = self._value_body(expr.body)
        self.tables.bodies[expr.body] = frame.info()
        if expr.until is not None:
            with self.scopes.body("gather"):
                self.scopes.declare(others)
                self.scopes.declare(number)
                self.check_condition(expr.until, "the condition after `until`")
        self._check_parallel(frame, member)
        agents = member_type if isinstance(member_type, AgentType) else AgentType(())
        info = GatherInfo(expr, member, others, number, agents, found, rounds)
        self.tables.gathers[expr] = info
        return found

    def _implicit(self, name: str, kind: LocalKind, type_: Type, expr: s.Gather) -> Local:
        local = Local(name, kind, type_, expr.span, self.scopes.depth)
        self.scopes.declare(local)
        return local

    # --- race, first

    def _branches(self, branches: tuple[s.Expr, ...], form: str, expected: Type | None) -> Type:
        found: Type = NEVER
        for branch in branches:
            with self.scopes.body(form) as frame:
                value = self.check(branch, expected)
            self._check_parallel(frame, None)
            joined = join(found, value)
            if joined is None:
                earlier = [Note(f"the branches before give {found}", branches[0].span)]
                self.error(f"this branch of `{form}` gives {value}", branch, earlier)
            else:
                found = joined
        return found

    def _race(self, expr: s.Race, expected: Type | None) -> Type:
        return self._branches(expr.branches, "race", expected)

    def _first(self, expr: s.First, expected: Type | None) -> Type:
        count = self.bound_of(expr.count, "the number of branches to wait for")
        if count.max is not None and count.max > len(expr.branches):
            self.error(f"there are only {len(expr.branches)} branches", expr.count)
        return ListType(self._branches(expr.branches, "first", None))
