"""The checker: from a file to a `Checked` program, or to all the errors of it."""

from __future__ import annotations

from pathlib import Path

from tokenloom.compiler.diagnostics import CompileErrors, place_key
from tokenloom.compiler.frontend.check_declarations import ModuleChecker
from tokenloom.compiler.frontend.check_imports import Loader
from tokenloom.compiler.frontend.check_session import Session
from tokenloom.compiler.frontend.checked import (
    AgentSymbol,
    Checked,
    CheckedModule,
    GlobalSymbol,
    ModelSymbol,
    ToolSymbol,
    TypeSymbol,
    WorkflowSymbol,
)

__all__ = ["Checked", "check_file"]


def check_file(path: Path, source: str | None = None) -> Checked:
    """Parse and check a file and all that it imports; `source` stands in for its text.

    Raises `CompileErrors` with every error found, in order of place; warnings are of programs
    without errors, since an error hides what is used. What needs a tokenizer (budgets against
    shortest answers, prompts against the context) is left to a pass, which finds each ask with
    its answer type and budget in `Checked.asks`.
    """
    session = Session()
    loader = Loader(session)
    main = loader.load(path, source)
    agents: dict[str, AgentSymbol] = {}
    modules = list(loader.loaded.values())  # each after those that it imports
    for module in modules:
        checker = ModuleChecker(session, module, agents)
        checker.declare()
        checker.check_bodies()
    if session.errors:
        raise CompileErrors(session.errors)
    return _checked(session, main, modules, agents)


def _checked(
    session: Session,
    main: CheckedModule,
    modules: list[CheckedModule],
    agents: dict[str, AgentSymbol],
) -> Checked:
    symbols: list[GlobalSymbol] = [
        symbol for module in modules for symbol in module.symbols.values()
    ]
    tables = session.tables
    warnings = tuple(sorted(session.warnings, key=lambda warning: place_key(warning.location)))
    return Checked(
        main=main,
        modules=(main, *(module for module in modules if module is not main)),
        models={x.qualified_name: x for x in symbols if isinstance(x, ModelSymbol)},
        tools={x.qualified_name: x for x in symbols if isinstance(x, ToolSymbol)},
        agents=agents,
        workflows={x.qualified_name: x for x in symbols if isinstance(x, WorkflowSymbol)},
        named_types={x.qualified_name: x for x in symbols if isinstance(x, TypeSymbol)},
        types=tables.types,
        type_exprs=tables.type_exprs,
        names=tables.names,
        fields=tables.fields,
        constants=tables.constants,
        asks=tables.asks,
        calls=tables.calls,
        bodies=tables.bodies,
        loops=tables.loops,
        gathers=tables.gathers,
        variables=tables.variables,
        value_types=tables.value_types,
        warnings=warnings,
    )
