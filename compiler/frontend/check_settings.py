"""Checks of what stands in the braces of models, tools and agents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tokenloom.compiler.diagnostics import suggest
from tokenloom.compiler.frontend import syntax as s
from tokenloom.compiler.frontend.check_calls import AskChecks
from tokenloom.compiler.frontend.check_session import help_note
from tokenloom.compiler.frontend.checked import (
    AgentSettings,
    AgentSymbol,
    ModelSymbol,
    ToolSettings,
    ToolSymbol,
)
from tokenloom.compiler.frontend.types import FLOAT, INT, NEVER, TEXT, is_textual

Reader = Callable[[s.Expr], Any]


class SettingChecks(AskChecks):
    """Settings: each is given once, is known, and has a constant value of its kind."""

    def _read_settings(
        self, settings: Iterable[s.Setting], readers: dict[str, tuple[str, Reader]], owner: str
    ) -> dict[str, Any]:
        """Return the values by field name; a reader is named by the field that it fills."""
        values: dict[str, Any] = {}
        seen: set[str] = set()
        for setting in settings:
            name = setting.name.name
            if name not in readers:
                known = suggest(name, readers)
                self.error(f"{owner} has no setting `{name}`", setting.name, known)
            elif name in seen:
                self.error(f"setting `{name}` is given twice", setting.name)
            elif setting.value is None:
                if name in ("effect", "pure"):
                    values[readers[name][0]] = True
                else:
                    self.error(f"setting `{name}` has no value", setting)
            else:
                field, reader = readers[name]
                value = reader(setting.value)
                if value is not None:
                    values[field] = value
            seen.add(name)
        return values

    # --- models

    def read_model(self, symbol: ModelSymbol) -> None:
        """Fill in the settings of a model."""
        decl = symbol.decl
        source = decl.source.constant
        if not source:
            self.error("a model is named by a constant text", decl.source)
        readers: dict[str, tuple[str, Reader]] = {
            "dtype": ("dtype", self._word),
            "adapter": ("adapter", self._constant_text),
        }
        values = self._read_settings(decl.settings, readers, "a model")
        symbol.source = source or ""
        symbol.dtype = values.get("dtype")
        symbol.adapter = values.get("adapter")

    def _word(self, expr: s.Expr) -> str | None:
        """Return a bare word such as `float16`, or a constant text."""
        return expr.name if isinstance(expr, s.Name) else self._constant_text(expr)

    def _constant_text(self, expr: s.Expr) -> str | None:
        found = self.expect(expr, TEXT, "this setting")
        value = self.constant(expr)
        if isinstance(value, str):
            return value
        if found != NEVER:
            self.error("this setting must be constant text", expr)
        return None

    # --- tools

    def read_tool(self, symbol: ToolSymbol) -> None:
        """Fill in the settings of a tool."""
        decl = symbol.decl
        readers: dict[str, tuple[str, Reader]] = {
            "impl": ("impl", self._impl),
            "command": ("command", self._command),
            "takes": ("takes_ns", self._duration),
            "stages": ("stages_ns", self._stages),
            "timeout": ("timeout_ns", self._duration),
            "retries": ("retries", lambda expr: self._int(expr, "`retries`", 0, None)),
            "effect": ("is_effect", self._flag),
            "pure": ("is_pure", self._flag),
        }
        values = self._read_settings(decl.settings, readers, "a tool")
        symbol.settings = ToolSettings(**values)
        given = {setting.name.name for setting in decl.settings}
        if not given & {"impl", "command"}:
            help_ = help_note('write `impl = "module:function"` or `command = ["program", ...]`')
            self.error(f"tool `{symbol.name}` has neither `impl` nor `command`", decl.name, help_)
        if {"impl", "command"} <= given:
            self.error("a tool has either `impl` or `command`", decl.name)
        if symbol.settings.is_effect and symbol.settings.is_pure:
            self.error("a tool cannot be both `effect` and `pure`", decl.name)
        if symbol.settings.is_effect and symbol.settings.retries:
            self.error("an `effect` tool is never retried: take `retries` out", decl.name)

    def _impl(self, expr: s.Expr) -> str | None:
        value = self._constant_text(expr)
        if value is not None:
            module, colon, function = value.partition(":")
            parts = [*module.split("."), *function.split(".")]
            if not colon or not all(part.isidentifier() for part in parts):
                help_ = help_note('it looks like `"package.module:function"`')
                self.error("this names no Python function", expr, help_)
                return None
        return value

    def _command(self, expr: s.Expr) -> tuple[s.Text, ...] | None:
        if not isinstance(expr, s.ListExpr) or not expr.items:
            help_ = help_note('`command = ["rg", "{query}"]`: there is no shell')
            self.error("a command is a list of texts", expr, help_)
            return None
        arguments: list[s.Text] = []
        for item in expr.items:
            found = self.check(item)
            if isinstance(item, s.Text):
                arguments.append(item)
            elif not is_textual(found) or self.constant(item) is None:
                self.error("an argument of a command is a text in quotes", item)
            else:
                piece = s.TextPiece(item.span, str(self.constant(item)))
                arguments.append(s.Text(item.span, (piece,), False))
        return tuple(arguments)

    def _duration(self, expr: s.Expr) -> int | None:
        if isinstance(expr, s.Duration) and expr.nanoseconds > 0:
            return expr.nanoseconds
        self.error("a positive duration is expected", expr, help_note("such as `500ms`, `2s`"))
        return None

    def _stages(self, expr: s.Expr) -> tuple[tuple[str, int], ...] | None:
        if not isinstance(expr, s.RecordExpr):
            help_ = help_note("`stages = { query: 0.5s, execute: 1s }`")
            self.error("stages are named durations", expr, help_)
            return None
        stages: dict[str, int] = {}
        for field in expr.fields:
            if field.name.name in stages:
                self.error(f"stage `{field.name.name}` is given twice", field.name)
            stages[field.name.name] = self._duration(field.value) or 0
        return tuple(stages.items())

    def _flag(self, expr: s.Expr) -> bool | None:
        if isinstance(expr, s.BoolLiteral):
            return expr.value
        self.error("a flag is `true` or `false`, or stands alone", expr)
        return None

    def _int(self, expr: s.Expr, what: str, low: int | None, high: int | None) -> int | None:
        found = self.expect(expr, INT, what)
        value = self.constant(expr)
        if not isinstance(value, int) or isinstance(value, bool):
            if found != NEVER:
                self.error(f"{what} must be constant", expr)
            return None
        if (low is not None and value < low) or (high is not None and value > high):
            shown = f"at least {low}" if high is None else f"between {low} and {high}"
            self.error(f"{what} must be {shown}, not {value}", expr)
        return value

    # --- agents

    def read_agent(self, symbol: AgentSymbol) -> None:
        """Fill in the settings of an agent."""
        decl = symbol.decl
        readers: dict[str, tuple[str, Reader]] = {
            "model": ("model", self._model),
            "system": ("system", self._system),
            "reuse": ("reuse", self._reuse),
            "importance": ("importance", lambda e: self._int(e, "`importance`", 0, 10)),
            "temperature": ("temperature", lambda e: self._float(e, "temperature")),
            "top_p": ("top_p", lambda e: self._float(e, "top_p")),
            "seed": ("seed", lambda e: self._int(e, "`seed`", None, None)),
            "stop": ("stop", self.stops),
            "history": ("history", self._history),
        }
        values = self._read_settings(decl.settings, readers, "an agent")
        if not any(setting.name.name == "model" for setting in decl.settings):
            help_ = help_note("write `model = NAME` with a model that is declared")
            self.error(f"agent `{symbol.name}` has no model", decl.name, help_)
        if "reuse" in values:
            values["reuse"], values["refresh"] = values["reuse"]
        if "history" in values:
            values["history"], values["history_turns"] = values["history"]
        if "model" in values:
            symbol.settings = AgentSettings(**values)

    def _model(self, expr: s.Expr) -> ModelSymbol | None:
        if not self.is_reference(expr):
            help_ = help_note('declare it: `model NAME = "..."`')
            self.error("a model is given by its name", expr, help_)
            return None
        binding = self.binding_of(expr)
        if isinstance(binding, ModelSymbol):
            return binding
        if binding is not None:
            self.error("this is not a model", expr)
        return None

    def _system(self, expr: s.Expr) -> s.Expr | None:
        found = self.check(expr)
        if is_textual(found):
            return expr
        if found != NEVER:
            help_ = help_note("leave it out for no system turn")
            self.error(f"the system prompt must be text, not {found}", expr, help_)
        return None

    def _reuse(self, expr: s.Expr) -> tuple[str, float | None] | None:
        match expr:
            case s.Name(name="exact" | "linked" as kind):
                return kind, None
            case s.Call(
                callee=s.Name(name="linked"),
                arguments=(
                    s.Argument(
                        name=s.Identifier(name="refresh"), value=s.Percentage(fraction=share)
                    ),
                ),
            ) if share <= 1:
                return "linked", share
            case _:
                help_ = help_note("`exact`, `linked` or `linked(refresh = 15%)`")
                self.error("this is no kind of reuse", expr, help_)
                return None

    def _float(self, expr: s.Expr, what: str) -> float | None:
        found = self.expect(expr, FLOAT, f"`{what}`")
        value = self.constant(expr)
        if isinstance(value, int | float) and not isinstance(value, bool):
            self.check_sampling(what, float(value), expr)
            return float(value)
        if found != NEVER:
            self.error(f"`{what}` must be constant", expr)
        return None

    def _history(self, expr: s.Expr) -> tuple[str, int | None] | None:
        match expr:
            case s.NoneLiteral():
                return "none", None
            case s.Name(name="keep"):
                return "keep", None
            case s.Call(
                callee=s.Name(name="last"), arguments=(s.Argument(name=None, value=turns),)
            ):
                return "last", self._int(turns, "the number of turns", 1, None)
            case _:
                help_ = help_note("`keep`, `last(n)` or `none`")
                self.error("this is no kind of history", expr, help_)
                return None
