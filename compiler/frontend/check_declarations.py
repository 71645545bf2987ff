"""Checks of one file's declarations: names, constants, types, signatures, then bodies."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from tokenloom.compiler.diagnostics import CompileError, Diagnostic, Note
from tokenloom.compiler.frontend import syntax as s
from tokenloom.compiler.frontend.call_order import called_first
from tokenloom.compiler.frontend.check_core import BUILTINS, kind_of
from tokenloom.compiler.frontend.check_scope import Frame
from tokenloom.compiler.frontend.check_session import Session, help_note
from tokenloom.compiler.frontend.check_settings import SettingChecks
from tokenloom.compiler.frontend.check_statements import StatementChecks, ends
from tokenloom.compiler.frontend.check_tools import check_impl
from tokenloom.compiler.frontend.check_types import BASIC, TypeResolver
from tokenloom.compiler.frontend.checked import (
    AgentSymbol,
    CheckedModule,
    ConstSymbol,
    GlobalSymbol,
    Local,
    LocalKind,
    ModelSymbol,
    ParameterInfo,
    ToolSymbol,
    WorkflowSymbol,
)
from tokenloom.compiler.frontend.types import NEVER, Type, contains_agent

NamedDeclaration = (
    s.ModelDecl | s.ToolDecl | s.TypeDecl | s.AgentDecl | s.WorkflowDecl | s.ConstDecl
)
_MAX_LOOKS = 4
_NOT_FOR_AGENTS = frozenset(("ask", "round", "others"))


class Checker(SettingChecks, StatementChecks):
    """The checker of one declaration, with all its kinds of expression and statement."""

    def __init__(
        self,
        session: Session,
        module: CheckedModule,
        agents: dict[str, AgentSymbol],
        resolver: TypeResolver,
    ) -> None:
        super().__init__(session, module, agents)
        self.resolver = resolver
        self.statement_checks = self.statements()
        literals = (s.IntLiteral, s.FloatLiteral, s.BoolLiteral, s.NoneLiteral, s.Text)
        self.handlers = dict.fromkeys(literals, self._literal) | {
            s.Duration: self._no_value,
            s.Percentage: self._no_value,
            s.Name: self.check_reference,
            s.ListExpr: self._list,
            s.RecordExpr: self._record,
            s.Field: self._field,
            s.Index: self._index,
            s.Call: self._call,
            s.Ask: self._ask,
            s.Unary: self._unary,
            s.Binary: self._binary,
            s.Comparison: self._comparison,
            s.Gather: self._gather,
            s.Map: self._map,
            s.Race: self._race,
            s.First: self._first,
        }


class ModuleChecker:
    """Checks a file whose imports are checked; fills its symbols and the session's tables."""

    def __init__(
        self, session: Session, module: CheckedModule, agents: dict[str, AgentSymbol]
    ) -> None:
        self.session = session
        self.module = module
        self.agents = agents
        self.resolver = TypeResolver(session, module)
        self.workflows: list[WorkflowSymbol] = []

    def _checker(self) -> Checker:
        return Checker(self.session, self.module, self.agents, self.resolver)

    def declare(self) -> None:
        """Make the symbols of the file, signatures included; bodies come later."""
        unique = self._unique_declarations()
        makers: dict[type, Callable[[Any], None]] = {
            s.ConstDecl: self._declare_const,
            s.ModelDecl: self._declare_model,
            s.AgentDecl: self._declare_agent,
            s.TypeDecl: self._declare_type,
        }
        for kind, make in makers.items():
            for decl in unique:
                if isinstance(decl, kind):
                    make(decl)
        while self.resolver.pending:
            self.resolver.resolve_declaration(next(iter(self.resolver.pending.values())))
        for decl in unique:
            if isinstance(decl, s.ToolDecl | s.WorkflowDecl):
                self._declare_callable(decl)
            elif isinstance(decl, s.AgentDecl):
                symbol = self.module.symbols[decl.name.name]
                assert isinstance(symbol, AgentSymbol)
                symbol.parameters = self._parameters(decl)
        tests = [decl for decl in self.module.syntax.declarations if isinstance(decl, s.TestDecl)]
        self.module.tests = tuple(tests)

    def _unique_declarations(self) -> list[NamedDeclaration]:
        """Return the declarations with names, reporting a name that is declared twice."""
        first: dict[str, s.Identifier] = {}
        unique: list[NamedDeclaration] = []
        for decl in self.module.syntax.declarations:
            if isinstance(decl, s.TestDecl):
                continue
            name = decl.alias if isinstance(decl, s.Import) else decl.name
            if name.name in first:
                notes = [Note("it is declared here first", first[name.name].span)]
                self.session.error(f"`{name.name}` is declared already", name, notes)
            elif name.name in BUILTINS or (name.name in BASIC and isinstance(decl, s.TypeDecl)):
                self.session.error(f"`{name.name}` is a name of the language", name)
            elif not isinstance(decl, s.Import):
                unique.append(decl)
            first.setdefault(name.name, name)
        return unique

    def _names(self, decl: NamedDeclaration) -> tuple[str, str, CheckedModule]:
        name = decl.name.name
        prefix = self.module.prefix
        return name, f"{prefix}.{name}" if prefix else name, self.module

    def _declare_const(self, decl: s.ConstDecl) -> None:
        checker = self._checker()
        found = checker.check(decl.value)
        if decl.value not in self.session.tables.constants and found != NEVER:
            self.session.error("a constant is a literal", decl.value)
        value = checker.constant(decl.value)
        symbol = ConstSymbol(*self._names(decl), decl, found, value)
        self.module.symbols[decl.name.name] = symbol

    def _declare_model(self, decl: s.ModelDecl) -> None:
        self.module.symbols[decl.name.name] = ModelSymbol(*self._names(decl), decl)

    def _declare_agent(self, decl: s.AgentDecl) -> None:
        symbol = AgentSymbol(*self._names(decl), decl, ())
        self.module.symbols[decl.name.name] = symbol
        self.agents[symbol.qualified_name] = symbol

    def _declare_type(self, decl: s.TypeDecl) -> None:
        self.resolver.pending[decl.name.name] = decl

    def _declare_callable(self, decl: s.ToolDecl | s.WorkflowDecl) -> None:
        parameters = self._parameters(decl)
        result = self.resolver.resolve(decl.result)
        if isinstance(decl, s.WorkflowDecl):
            symbol = WorkflowSymbol(*self._names(decl), decl, parameters, result)
            self.workflows.append(symbol)
            self.module.symbols[decl.name.name] = symbol
            return
        self.module.symbols[decl.name.name] = ToolSymbol(
            *self._names(decl), decl, parameters, result
        )
        for node in (decl.result, *(parameter.type for parameter in decl.parameters)):
            if contains_agent(self.session.tables.type_exprs[node]):
                self.session.error("a tool neither takes nor gives agents", node)

    def _parameters(
        self, decl: s.AgentDecl | s.ToolDecl | s.WorkflowDecl
    ) -> tuple[ParameterInfo, ...]:
        """Check the parameters of a declaration; one whose name is taken is left out."""
        found: dict[str, ParameterInfo] = {}
        for node in decl.parameters:
            name = node.name.name
            type_ = self.resolver.resolve(node.type)
            if name in found:
                self.session.error(f"parameter `{name}` is declared twice", node.name)
            elif isinstance(decl, s.AgentDecl) and name in _NOT_FOR_AGENTS:
                self.session.error(f"a parameter of an agent cannot be named `{name}`", node.name)
            elif name in BUILTINS:
                self.session.error(f"`{name}` is a function of the language", node.name)
            elif node.default is not None:
                self._check_default(node.default, type_)
            elif found and list(found.values())[-1].default is not None:
                self.session.error(f"`{name}` needs a default: those before it have one", node)
            local = Local(name, LocalKind.PARAMETER, type_, node.name.span, 0)
            found[name] = ParameterInfo(name, type_, node.default, local)
        return tuple(found.values())

    def _check_default(self, value: s.Expr, type_: Type) -> None:
        checker = self._checker()
        found = checker.expect(value, type_, "the default")
        constant = value in self.session.tables.constants or isinstance(value, s.ListExpr)
        if not constant and found != NEVER and not isinstance(value, s.RecordExpr):
            self.session.error("a default is a literal or a constant", value)

    # --- bodies

    def check_bodies(self) -> None:
        """Check settings, workflows (those that are called first) and tests."""
        for symbol in list(self.module.symbols.values()):
            self._check_settings(symbol)
        for symbol in called_first(self.session, self.workflows):
            self._check_workflow(symbol)
        for test in self.module.tests:
            self._check_test(test)
        for decl in self.module.syntax.declarations:
            if isinstance(decl, s.Import):
                if decl.alias.name not in self.resolver.used:
                    self.session.warn(f"import `{decl.alias.name}` is not used", decl.alias)
            elif decl.attributes and not isinstance(decl, s.WorkflowDecl):
                self.session.error("attributes are of workflows and asks", decl.attributes[0])

    def _check_settings(self, symbol: GlobalSymbol) -> None:
        if symbol.module is not self.module:
            return
        checker = self._checker()
        if isinstance(symbol, ModelSymbol):
            checker.read_model(symbol)
        elif isinstance(symbol, ToolSymbol | AgentSymbol):
            for parameter in symbol.parameters:
                self._check_shadowing(parameter)
                checker.scopes.declare(parameter.local)
            if isinstance(symbol, AgentSymbol):
                checker.read_agent(symbol)
            else:
                checker.read_tool(symbol)
                check_impl(self.session, symbol)

    def _check_shadowing(self, parameter: ParameterInfo) -> None:
        symbol = self.module.symbols.get(parameter.name)
        if symbol is not None:
            message = f"`{parameter.name}` is {kind_of(symbol)}: take another name"
            self.session.errors.append(CompileError(message, parameter.local.span))

    def _check_workflow(self, symbol: WorkflowSymbol) -> None:
        for parameter in symbol.parameters:
            self._check_shadowing(parameter)
        checker, frame = self._settled(symbol.decl.body, symbol.result, symbol.parameters)
        symbol.bare_agents = tuple(checker.scopes.bare_agents)
        parameters = {parameter.local for parameter in symbol.parameters}
        asked = [root for root in frame.asks if isinstance(root, Local) and root in parameters]
        symbol.asked_parameters = tuple(asked)
        symbol.calls_effects = frame.calls_effects
        attributes = checker.check_attributes(symbol.decl.attributes)
        symbol.deadline_ns, symbol.is_critical = attributes
        if not ends(symbol.decl.body):
            help_ = help_note("every way through it must end in `return` or `fail`")
            message = f"workflow `{symbol.name}` may end without a result"
            self.session.error(message, symbol.decl.name, help_)
        self._warn_unused(checker)

    def _check_test(self, test: s.TestDecl) -> None:
        if test.name.constant is None:
            self.session.error("the name of a test is constant", test.name)
        self._settled(test.body, None, ())

    def _settled(
        self, body: s.Block, result: Type | None, parameters: tuple[ParameterInfo, ...]
    ) -> tuple[Checker, Frame]:
        """Check a body, again if a `var` turned out to have a wider type than its first value."""
        known: dict[s.Var, Type] = {}
        mark = self.session.mark()
        for look in count(1):
            self.session.reset(mark)
            checker = self._checker()
            checker.result, checker.in_test = result, result is None
            checker.var_types = dict(known)
            for parameter in parameters:
                checker.scopes.declare(parameter.local)
            with checker.scopes.body() as frame:
                checker.check_block(body)
            self.session.tables.bodies[body] = frame.info()
            if checker.var_types == known or look == _MAX_LOOKS:
                return checker, frame
            known = checker.var_types
        raise AssertionError("count ends")

    def _warn_unused(self, checker: Checker) -> None:
        used: dict[s.Span, bool] = {}
        for local in checker.scopes.declared:
            used[local.span] = used.get(local.span, False) or local.is_used
        for local in checker.scopes.declared:
            implicit = local.kind in (LocalKind.OTHERS, LocalKind.ROUND)
            if not used.pop(local.span, True) and not implicit and not local.name.startswith("_"):
                what = "value" if local.kind is not LocalKind.PARAMETER else "parameter"
                message = f"{what} `{local.name}` is not used"
                self.session.warnings.append(Diagnostic(message, local.span, (), "warning"))
