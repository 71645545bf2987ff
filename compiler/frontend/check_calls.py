"""Checks of calls: agents made, tools, workflows, functions of the language, and asks."""

from __future__ import annotations

from collections.abc import Sequence

from tokenloom.compiler.diagnostics import suggest
from tokenloom.compiler.frontend import syntax as s
from tokenloom.compiler.frontend.check_core import Core, kind_of
from tokenloom.compiler.frontend.check_session import help_note
from tokenloom.compiler.frontend.check_values import ValueChecks
from tokenloom.compiler.frontend.checked import (
    AgentSymbol,
    AskInfo,
    Builtin,
    CallInfo,
    ParameterInfo,
    ToolSymbol,
    WorkflowSymbol,
)
from tokenloom.compiler.frontend.types import (
    FLOAT,
    INT,
    NEVER,
    TEXT,
    AgentType,
    IntType,
    ListType,
    NeverType,
    TextType,
    Type,
    contains_agent,
    contains_secret,
    is_textual,
)

_ASK_ARGUMENTS = ("prompt", "max", "stop", "temperature", "top_p", "seed")
_BUDGET_HELP = "write how many tokens the answer may have: `max = 64`"


def bind_arguments(
    core: Core, node: s.Node, arguments: Sequence[s.Argument], names: Sequence[str], callee: str
) -> list[s.Argument | None]:
    """Put arguments in the order of the names, reporting those that have no place."""
    bound: dict[str, s.Argument] = {}
    for index, argument in enumerate(arguments):
        name = argument.name.name if argument.name is not None else None
        if name is None and index >= len(names):
            core.error(f"{callee} takes {_count(names)}", argument)
            continue
        name = names[index] if name is None else name
        if name not in names:
            core.error(f"{callee} has no parameter `{name}`", argument, suggest(name, names))
        elif name in bound:
            core.error(f"argument `{name}` is given twice", argument)
        else:
            bound[name] = argument
    return [bound.get(name) for name in names]


def _count(names: Sequence[str]) -> str:
    return "no arguments" if not names else f"{len(names)} argument{'s' * (len(names) > 1)}"


class CallChecks(ValueChecks):
    """Calls of what the program declares, and `len` and `join`."""

    def _call(self, expr: s.Call, expected: Type | None) -> Type:
        callee = expr.callee
        if not self.is_reference(callee):
            found = self.check(callee)
            return NEVER if found == NEVER else self.error(f"{found} cannot be called", callee)
        binding = self.binding_of(callee)
        match binding:
            case AgentSymbol() | ToolSymbol() | WorkflowSymbol():
                return self._call_symbol(expr, binding)
            case Builtin():
                return self._call_builtin(expr, binding)
            case None:
                return self._call_unknown(expr)
            case _:
                return self.error(f"{kind_of(binding)} cannot be called", callee)

    def _call_unknown(self, expr: s.Call) -> Type:
        for argument in expr.arguments:
            self.check(argument.value)
        return NEVER

    def _call_symbol(self, expr: s.Call, symbol: AgentSymbol | ToolSymbol | WorkflowSymbol) -> Type:
        values = self._check_arguments(expr, symbol.name, symbol.parameters)
        self.tables.calls[expr] = CallInfo(expr, symbol, values)
        if isinstance(symbol, AgentSymbol):
            return symbol.type
        if isinstance(symbol, ToolSymbol):
            if symbol.settings.is_effect:
                self.scopes.call_effect()
        else:
            self._call_workflow(expr, symbol, values)
        return symbol.result

    def _call_workflow(
        self, expr: s.Call, symbol: WorkflowSymbol, values: tuple[s.Expr | None, ...]
    ) -> None:
        if symbol.calls_effects:
            self.scopes.call_effect()
        for parameter, value in zip(symbol.parameters, values, strict=True):
            asked = parameter.local in symbol.asked_parameters
            if asked and value is not None:
                self.scopes.ask(self.roots(value), value)

    def _check_arguments(
        self, expr: s.Call, callee: str, parameters: tuple[ParameterInfo, ...]
    ) -> tuple[s.Expr | None, ...]:
        names = [parameter.name for parameter in parameters]
        bound = bind_arguments(self, expr, expr.arguments, names, f"`{callee}`")
        for parameter, argument in zip(parameters, bound, strict=True):
            if argument is not None:
                self.expect(argument.value, parameter.type, f"argument `{parameter.name}`")
            elif parameter.default is None:
                missing = f"argument `{parameter.name}` is missing, {parameter.type}"
                self.error(f"{missing}, in this call of `{callee}`", expr)
        return tuple(None if argument is None else argument.value for argument in bound)

    def _call_builtin(self, expr: s.Call, builtin: Builtin) -> Type:
        names = ["x"] if builtin.name == "len" else ["xs", "sep"]
        bound = bind_arguments(self, expr, expr.arguments, names, f"`{builtin.name}`")
        values = [argument.value for argument in bound if argument is not None]
        if len(values) < len(names):
            wanted = ", ".join(names)
            return self.error(f"`{builtin.name}({wanted})` takes {_count(names)}", expr)
        self.tables.calls[expr] = CallInfo(expr, builtin, tuple(values))
        return self._len(values[0]) if builtin.name == "len" else self._join(*values)

    def _len(self, value: s.Expr) -> Type:
        found = self.check(value)
        if isinstance(found, ListType):
            items = self.visible_items(value)
            return IntType(0) if items is None else IntType(len(items), len(items))
        if is_textual(found):
            constant = self.constant(value)
            longest = found.max if isinstance(found, TextType) else None
            size = len(constant) if isinstance(constant, str) else None
            return IntType(0, longest) if size is None else IntType(size, size)
        if found != NEVER:
            self.error(f"`len` takes a list or a text, not {found}", value)
        return INT

    def _join(self, values: s.Expr, separator: s.Expr) -> Type:
        item = self.item_of(values, "the first argument of `join`")
        if contains_agent(item):
            self.error("an agent is not text", values)
        sep = self.check(separator)
        if not is_textual(sep) and sep != NEVER:
            self.error(f"the separator must be text, not {sep}", separator)
        secret = contains_secret(item) or contains_secret(sep)
        return TextType(secret) if secret else TEXT


class AskChecks(CallChecks):
    """`agent.ask(...)`."""

    def _ask(self, expr: s.Ask, expected: Type | None) -> Type:
        agent = self._asked_agent(expr.agent)
        names = _ASK_ARGUMENTS
        bound = bind_arguments(self, expr, expr.arguments, names, "`ask`")
        prompt, budget, stop, temperature, top_p, seed = (
            None if argument is None else argument.value for argument in bound
        )
        if prompt is None:
            self.error("the prompt is missing: `ask(prompt, max = n)`", expr)
        else:
            self._prompt(prompt)
        bound_ = self._budget(expr, budget)
        stops = None if stop is None else self.stops(stop)
        for value, what in ((temperature, "temperature"), (top_p, "top_p")):
            if value is not None:
                self._fraction(value, what)
        if seed is not None:
            self.expect(seed, INT, "the seed")
        answer = TEXT if expr.answer is None else self._answer(expr.answer)
        deadline, critical = self.check_attributes(expr.attributes)
        if prompt is not None and budget is not None:
            self.tables.asks[expr] = AskInfo(
                expr, self.agents_of(agent), prompt, budget, bound_, answer, stops, temperature,
                top_p, seed, deadline, critical,
            )  # fmt: skip
        return answer

    def _asked_agent(self, expr: s.Expr) -> Type:
        found = self.check(expr)
        if isinstance(found, AgentType):
            self.scopes.ask(self.roots(expr), expr)
        elif isinstance(found, ListType) and isinstance(found.item, AgentType):
            help_ = help_note("ask each: `gather a in agents for 1 { a.ask(...) }`")
            self.error("a list of agents cannot be asked", expr, help_)
        elif not isinstance(found, NeverType):
            self.error(f"only an agent can be asked, not {found}", expr)
        return found

    def _prompt(self, expr: s.Expr) -> None:
        found = self.check(expr)
        if not is_textual(found) and found != NEVER:
            help_ = help_note('interpolate it: `"{x}"`')
            self.error(f"the prompt must be text, not {found}", expr, help_)

    def _budget(self, ask: s.Ask, budget: s.Expr | None) -> int:
        if budget is None:
            self.error("the token budget is missing", ask, help_note(_BUDGET_HELP))
            return 1
        found = self.check(budget)
        if not isinstance(found, IntType):
            if found != NEVER:
                self.error(f"`max` must be int, not {found}", budget)
        elif found.min is None or found.min < 1:
            shown = found.min if found.min is not None and found.min == found.max else found
            self.error(f"a token budget must be positive, not {shown}", budget)
        elif found.max is None:
            help_ = help_note("take a constant, or a parameter like `n: int(1..256)`")
            self.error("this token budget has no upper bound", budget, help_)
        else:
            return found.max
        return 1

    def _fraction(self, expr: s.Expr, what: str) -> None:
        self.expect(expr, FLOAT, f"`{what}`")
        value = self.constant(expr)
        if isinstance(value, int | float):
            self.check_sampling(what, float(value), expr)

    def check_sampling(self, what: str, value: float, node: s.Node) -> None:
        """Report a temperature or top_p outside of what has a meaning."""
        if what == "temperature" and value < 0:
            self.error(f"the temperature must not be negative: {value}", node)
        if what == "top_p" and not 0 < value <= 1:
            self.error(f"top_p must be above 0 and at most 1, not {value}", node)

    def stops(self, expr: s.Expr) -> tuple[str, ...]:
        """Check a `stop`: a constant text or a list of them."""
        values = expr.items if isinstance(expr, s.ListExpr) else (expr,)
        texts: list[str] = []
        for value in values:
            found = self.expect(value, TEXT, "`stop`")
            constant = self.constant(value)
            if isinstance(constant, str) and constant:
                texts.append(constant)
            elif found != NEVER:
                self.error("`stop` must be constant text, and not empty", value)
        if isinstance(expr, s.ListExpr):
            self.tables.types[expr] = ListType(TEXT)
        return tuple(texts)

    def _answer(self, node: s.TypeExpr) -> Type:
        found = self.resolver.resolve(node)
        if contains_agent(found):
            self.error("an answer cannot be an agent", node)
            return NEVER
        return found

    def check_attributes(self, attributes: tuple[s.Attribute, ...]) -> tuple[int | None, bool]:
        """Return the deadline in ns, if any, and whether `@critical` is there."""
        deadline, critical, seen = None, False, set[str]()
        for attribute in attributes:
            name = attribute.name.name
            if name not in ("deadline", "critical"):
                known = suggest(name, ("deadline", "critical"))
                self.error(f"unknown attribute `@{name}`", attribute, known)
                continue
            if name in seen:
                self.error(f"`@{name}` is given twice", attribute)
            seen.add(name)
            if name == "deadline":
                deadline = self._deadline(attribute)
            else:
                critical = True
                if attribute.arguments:
                    self.error("`@critical` takes no arguments", attribute)
        return deadline, critical

    def _deadline(self, attribute: s.Attribute) -> int | None:
        value = attribute.arguments[0].value if len(attribute.arguments) == 1 else None
        if isinstance(value, s.Duration) and value.nanoseconds > 0:
            return value.nanoseconds
        self.error("`@deadline` takes one duration", attribute, help_note("`@deadline(2s)`"))
        return None
