"""Checks of statements: assignment, branches, loops, what is reached and what is returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokenloom.compiler.diagnostics import Note, suggest
from tokenloom.compiler.frontend import syntax as s
from tokenloom.compiler.frontend.check_calls import AskChecks
from tokenloom.compiler.frontend.check_collectives import CollectiveChecks
from tokenloom.compiler.frontend.check_core import kind_of
from tokenloom.compiler.frontend.check_scope import Frame
from tokenloom.compiler.frontend.check_session import help_note
from tokenloom.compiler.frontend.checked import (
    AgentSymbol,
    Local,
    LocalKind,
    LoopInfo,
    ToolSymbol,
    WorkflowSymbol,
)
from tokenloom.compiler.frontend.types import (
    NEVER,
    NONE,
    TEXT,
    BoolType,
    EnumType,
    Type,
    contains_agent,
    fits,
    is_complete,
    is_textual,
    join,
    optional,
    widen,
)


def ends(block: s.Block) -> bool:
    """Whether a block never goes on to what stands after it."""
    return any(map(_leaves, block.statements))


def _leaves(statement: s.Statement) -> bool:
    match statement:
        case s.Return() | s.Fail():
            return True
        case s.If():
            otherwise = statement.otherwise
            return otherwise is not None and ends(statement.then) and ends(otherwise)
        case s.Try():
            return ends(statement.body) and ends(statement.handler)
        case s.Match():
            takes_all = any(arm.pattern is None for arm in statement.arms)
            return takes_all and all(ends(arm.body) for arm in statement.arms)
        case _:
            return False


class StatementChecks(AskChecks, CollectiveChecks):
    """Statements of a workflow or test."""

    def check_block(self, block: s.Block) -> None:
        """Check the statements of a block in the current body."""
        for index, statement in enumerate(block.statements):
            self.statement_checks[type(statement)](statement)
            if _leaves(statement) and index + 1 < len(block.statements):
                self.error("this is never reached", block.statements[index + 1])
                break

    def check_value_block(self, block: s.Block) -> Type:
        """Check a block whose last statement is its value."""
        if not block.statements:
            return self.error("this body has no value", block)
        last = block.statements[-1]
        self.check_block(s.Block(block.span, block.statements[:-1]))
        match last:
            case s.ExprStatement():
                found = self.check(last.value)
                self.block_roots[block] = self.roots(last.value) if contains_agent(found) else {}
                return found
            case s.If():
                return self._value_of_if(last)
            case _:
                self.statement_checks[type(last)](last)
                help_ = help_note("its last statement must be an expression")
                return self.error("this body has no value", last, help_)

    def _value_of_if(self, node: s.If) -> Type:
        values: list[Type] = []
        self.check_condition(node.condition, "a condition")
        for block, holds in ((node.then, True), (node.otherwise, False)):
            if block is None:
                values.append(NONE)
                continue
            with self.scopes.body() as frame:
                self.narrow(node.condition, holds=holds)
                values.append(self.check_value_block(block))
            self.tables.bodies[block] = frame.info()
            self.tables.value_types[block] = values[-1]
        joined = join(*values)
        if joined is None:
            return self.error(f"the branches give {values[0]} and {values[1]}", node)
        return optional(joined) if NONE in values else joined

    def _body(self, block: s.Block) -> Frame:
        with self.scopes.body() as frame:
            self.check_block(block)
        self.tables.bodies[block] = frame.info()
        return frame

    # --- names

    def _let(self, node: s.Let) -> None:
        found = self.check(node.value)
        local = self.declare(node.name, LocalKind.LET, found, node)
        self.scopes.values[local] = node.value
        if node.value in self.tables.constants:
            self.scopes.constants[local] = self.tables.constants[node.value]
        self.bind_agents(local, node.value)

    def _var(self, node: s.Var) -> None:
        found = self.check(node.value)
        type_ = self.var_types.get(node) or widen(found)
        local = self.declare(node.name, LocalKind.VAR, type_, node)
        self.bind_agents(local, node.value)
        self.var_nodes[local] = node

    def _assign(self, node: s.Assign) -> None:
        binding = self.scopes.names.get(node.name.name)
        if binding is None or not binding.is_var:
            self.check(node.value)
            self._report_not_assignable(node, binding)
            return
        self.tables.names[node.name] = binding
        self.scopes.assign(binding)
        self._check_assigned_frames(node, binding)
        before = len(self.session.errors)
        found = self.check(node.value, binding.type)
        if not fits(found, binding.type) or not is_complete(binding.type):
            self._refine(node, binding, found, len(self.session.errors) > before)
        if contains_agent(found):
            self.scopes.roots.setdefault(binding, {}).update(self.roots(node.value))

    def _report_not_assignable(self, node: s.Assign, binding: Local | None) -> None:
        name = node.name.name
        if binding is not None:
            self.tables.names[node.name] = binding
            notes = [Note(f"declared here as a {binding.kind}", binding.span)]
            notes += help_note("declare it with `var`") if binding.kind is LocalKind.LET else ()
            self.error(f"`{name}` cannot be assigned", node.name, notes)
        elif symbol := self.module.symbols.get(name):
            self.error(f"`{name}` is {kind_of(symbol)}, and cannot be assigned", node.name)
        else:
            known = suggest(name, [n for n, x in self.scopes.names.items() if x.is_var])
            notes = known or help_note(f"declare it: `let {name} = ...`")
            self.error(f"unknown name `{name}`", node.name, notes)

    def _refine(self, node: s.Assign, local: Local, found: Type, failed: bool) -> None:
        """Widen a var whose first value (`[]`, `none`) says little of its type."""
        joined = join(local.type, found)
        vague = local.type == NONE or not is_complete(local.type)
        if vague and joined is not None:
            local.type = widen(joined)
            self.var_types[self.var_nodes[local]] = local.type
        elif not failed and found != NEVER and not fits(found, local.type):
            notes = [Note("its first value is here", local.span)]
            self.error(f"`{local.name}` is {local.type}, not {found}", node.value, notes)

    def _check_assigned_frames(self, node: s.Assign, local: Local) -> None:
        for frame in self.scopes.frames:
            if frame.parallel and local.depth < frame.depth:
                message = f"`{local.name}` is from outside of this `{frame.parallel}`"
                help_ = help_note("use the value of the body, or a `for`")
                self.error(f"{message}, whose parts run in parallel", node.name, help_)
                return

    # --- branches

    def _if(self, node: s.If) -> None:
        self.check_condition(node.condition, "a condition")
        for block, holds in ((node.then, True), (node.otherwise, False)):
            if block is None:
                continue
            with self.scopes.body() as frame:
                self.narrow(node.condition, holds=holds)
                self.check_block(block)
            self.tables.bodies[block] = frame.info()
        if ends(node.then):
            self.narrow(node.condition, holds=False)
        elif node.otherwise is not None and ends(node.otherwise):
            self.narrow(node.condition, holds=True)

    def _match(self, node: s.Match) -> None:
        subject = self.check(node.subject)
        seen: dict[object, s.MatchArm] = {}
        for arm in node.arms:
            if None in seen:
                self.error("this arm is never reached: `_` before it takes all", arm)
            key = self._pattern(arm, subject)
            if key is not None and key in seen:
                self.error("this arm is never reached: the pattern stands before", arm)
            seen.setdefault(key, arm)
            self._body(arm.body)
        if None not in seen and isinstance(subject, EnumType | BoolType):
            self._check_exhaustive(node, subject, set(seen))

    def _pattern(self, arm: s.MatchArm, subject: Type) -> object:
        """Return a key for the pattern of an arm, None for `_`."""
        if arm.pattern is None:
            return None
        if isinstance(arm.pattern, s.Name):
            self.error("a pattern is a literal or `_`", arm.pattern)
            return arm.pattern
        self._equality_with(subject, arm.pattern)
        if isinstance(arm.pattern, s.NoneLiteral):
            return "none", None
        value = self.constant(arm.pattern)
        return arm.pattern if value is None else (type(value), value)

    def _equality_with(self, subject: Type, pattern: s.Expr) -> None:
        before = len(self.session.errors)
        found = self.check(pattern, subject if is_textual(subject) else None)
        failed = len(self.session.errors) > before or NEVER in (subject, found)
        if isinstance(pattern, s.Text) and pattern.constant is None:
            self.error("a pattern must be constant", pattern)
        elif not failed and join(subject, found) is None:
            self.error(f"{subject} never equals {found}", pattern)

    def _check_exhaustive(
        self, node: s.Match, subject: EnumType | BoolType, seen: set[object]
    ) -> None:
        values = subject.values if isinstance(subject, EnumType) else (False, True)
        missing = [value for value in values if (type(value), value) not in seen]
        if missing:
            shown = ", ".join(
                f'"{value}"' if isinstance(value, str) else str(value).lower() for value in missing
            )
            self.session.warn(f"no arm for {shown}: nothing happens then", node.subject)

    def _try(self, node: s.Try) -> None:
        self._body(node.body)
        with self.scopes.body() as frame:
            error = self.declare(node.error, LocalKind.ERROR, TEXT, node)
            error.is_used = True
            self.check_block(node.handler)
        self.tables.bodies[node.handler] = frame.info()

    # --- loops

    def _repeat(self, node: s.Repeat) -> None:
        count = self.bound_of(node.count, "the count of `repeat`")
        if node.is_max and node.until is None:
            help_ = help_note("end its body with `until cond`, or write `repeat n`")
            self.error("`repeat max` needs an `until`", node.count, help_)
        if not node.is_max and node.until is not None:
            help_ = help_note("write `repeat max n { ... until cond }`")
            self.error("`until` needs `repeat max`", node.until, help_)
        with self.scopes.body() as frame:
            self.check_block(node.body)
            if node.until is not None:
                self.check_condition(node.until, "the condition after `until`")
        self.tables.bodies[node.body] = frame.info()
        self.tables.loops[node] = LoopInfo(node, None, None, count.max, False)

    def _for(self, node: s.For) -> None:
        item = self.items_of_body(node.items, "what `for` goes over")
        with self.scopes.body() as frame:
            local = self.declare(node.variable, LocalKind.LOOP, item, node)
            self.bind_agents(local, node.items)
            self.check_block(node.body)
        self.tables.bodies[node.body] = frame.info()
        items = self.visible_items(node.items)
        twice = items is not None and self.duplicate_member(items) is not None
        asks_outer = any(root is not local for root in frame.asks) or (
            local in frame.asks and twice
        )
        ordered = frame.assigns or frame.calls_effects or frame.returns or asks_outer
        bound = None if items is None else len(items)
        self.tables.loops[node] = LoopInfo(node, local, item, bound, not ordered)

    # --- ends and messages

    def _return(self, node: s.Return) -> None:
        parallel = next((frame for frame in self.scopes.frames if frame.parallel), None)
        self.scopes.return_()
        if parallel is not None:
            self.error(f"no `return` inside of a `{parallel.parallel}`", node)
        elif self.result is None:
            self.error("only a workflow returns", node)
            self.check(node.value)
        else:
            self.expect(node.value, self.result, "the result")

    def _assert(self, node: s.Assert) -> None:
        self.check_condition(node.condition, "what is asserted")
        if node.message is not None:
            self.expect(node.message, TEXT, "the message")
        elif not self.in_test:
            help_ = help_note('`assert c else "what is wrong"`')
            self.error("this `assert` has no message", node, help_)
        self.narrow(node.condition, holds=True)

    def _fail(self, node: s.Fail) -> None:
        self.expect(node.message, TEXT, "the message")

    def _expression(self, node: s.ExprStatement) -> None:
        self.check(node.value)
        if isinstance(node.value, s.Ask | s.Gather | s.Map | s.Race | s.First):
            return
        info = self.tables.calls.get(node.value) if isinstance(node.value, s.Call) else None
        target = info.target if info is not None else None
        if isinstance(target, ToolSymbol):
            if not target.settings.is_effect:
                help_ = help_note("mark the tool `effect` if it is called for what it does")
                self.session.warn(f"the result of `{target.name}` is not used", node, help_)
        elif not isinstance(target, WorkflowSymbol) and self.tables.types[node.value] != NEVER:
            self.session.warn("this value is not used", node)

    def _reply(self, node: s.Reply) -> None:
        if not self.in_test:
            self.error("`reply` stands only in a `test`", node)
        self.expect(node.text, TEXT, "a reply")
        binding = self.binding_of(node.agent)
        if binding is not None and not isinstance(binding, AgentSymbol):
            self.error("a reply is to an agent that is declared", node.agent)
        elif not self.is_reference(node.agent):
            self.error("a reply is to an agent, by its name", node.agent)

    def statements(self) -> dict[type, Callable[[Any], None]]:
        """Return the check of each kind of statement."""
        return {
            s.Let: self._let,
            s.Var: self._var,
            s.Assign: self._assign,
            s.If: self._if,
            s.Match: self._match,
            s.Try: self._try,
            s.Repeat: self._repeat,
            s.For: self._for,
            s.Return: self._return,
            s.Assert: self._assert,
            s.Fail: self._fail,
            s.ExprStatement: self._expression,
            s.Reply: self._reply,
        }
