"""Whether a tool's Python function takes the parameters that the tool declares.

The module is imported as the runtime will, from the script's folder or one above it; what cannot
be imported here is a warning, since the program may run elsewhere.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tokenloom.compiler.diagnostics import CompileError, suggest
from tokenloom.compiler.frontend import syntax as s
from tokenloom.compiler.frontend.check_session import Session, help_note
from tokenloom.compiler.frontend.checked import ToolSymbol


def check_impl(session: Session, symbol: ToolSymbol) -> None:
    """Compare the `impl` of a tool with its declaration."""
    impl = symbol.settings.impl
    node = next((x for x in symbol.decl.settings if x.name.name == "impl"), None)
    if impl is None or node is None:
        return
    module_name, _, path = impl.partition(":")
    root = import_root(symbol.module.folder.resolve(), module_name)
    with _importing(root, module_name):
        try:
            found = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:  # a user's module may raise anything
            reason = f"{type(error).__name__}: {error}"
            session.warn(f"`{module_name}` cannot be imported here ({reason})", node)
            return
    function: object = found
    for name in path.split("."):
        known = suggest(name, dir(function))
        function = getattr(function, name, None)
        if function is None:
            session.error(f"`{module_name}` has no `{path}`", node, known)
            return
    _compare(session, symbol, node, function)


def import_root(folder: Path, module_name: str) -> Path | None:
    """Return the folder, from `folder` upwards, that the module is found in."""
    relative = Path(*module_name.split("."))
    for root in (folder, *folder.parents):
        if (root / relative).with_suffix(".py").is_file() or (root / relative).is_dir():
            return root
    return None


@contextmanager
def _importing(root: Path | None, module_name: str) -> Generator[None]:
    """Import from `root` first; path and modules of that package are put back after."""
    top = module_name.partition(".")[0]
    kept_path, kept_flag = list(sys.path), sys.dont_write_bytecode
    kept = {name: sys.modules.pop(name) for name in _package(top)} if root is not None else {}
    try:
        here = ("", str(Path.cwd()))  # the folder the command runs in has no part in it
        sys.path[:] = [entry for entry in sys.path if entry not in here]
        if root is not None:
            sys.path.insert(0, str(root))
            sys.dont_write_bytecode = True
            importlib.invalidate_caches()
        yield
    finally:
        sys.path[:] = kept_path
        sys.dont_write_bytecode = kept_flag
        if root is not None:
            for name in _package(top):
                del sys.modules[name]
            sys.modules.update(kept)


def _package(top: str) -> list[str]:
    return [name for name in sys.modules if name == top or name.startswith(f"{top}.")]


def _compare(session: Session, symbol: ToolSymbol, node: s.Setting, function: object) -> None:
    if not callable(function):
        session.error(f"`{symbol.settings.impl}` is not callable", node)
        return
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return  # a function written in C may tell nothing of its parameters
    parameters = signature.parameters
    kinds = inspect.Parameter
    takes_any = any(p.kind is kinds.VAR_KEYWORD for p in parameters.values())
    named = (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    known = [name for name, p in parameters.items() if p.kind in named]
    declared = [parameter.name for parameter in symbol.parameters]
    shown = f"`{symbol.settings.impl}{signature}`"
    for parameter in symbol.parameters:
        if parameter.name not in known and not takes_any:
            notes = (*suggest(parameter.name, known), *help_note(f"it is {shown}"))
            message = f"the Python function has no parameter `{parameter.name}`"
            session.errors.append(CompileError(message, parameter.local.span, notes))
    for name, p in parameters.items():
        variadic = p.kind in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
        if p.default is kinds.empty and not variadic and name not in declared:
            message = f"the Python function needs `{name}`, which the tool does not declare"
            session.error(message, node, help_note(f"it is {shown}"))
