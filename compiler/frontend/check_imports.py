"""The files of a program: each is parsed once, and stands after those that it imports."""

from __future__ import annotations

from pathlib import Path

from tokenloom.compiler.diagnostics import CompileError, CompileErrors
from tokenloom.compiler.frontend import syntax as s
from tokenloom.compiler.frontend.check_session import Session
from tokenloom.compiler.frontend.checked import CheckedModule, ImportSymbol
from tokenloom.compiler.frontend.parse import parse


class Loader:
    """Loads a file and what it imports; errors go to the session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.loaded: dict[Path, CheckedModule] = {}
        self.open: list[Path] = []
        self.prefixes: set[str] = set()

    def load(self, path: Path, source: str | None = None) -> CheckedModule:
        """Return a file with its imports bound; raises `CompileErrors` if it does not parse."""
        module = CheckedModule(path, self._prefix(path), parse(path, source))
        key = path.resolve()
        self.open.append(key)
        for decl in module.syntax.declarations:
            if isinstance(decl, s.Import):
                self._import(module, decl)
                if decl.alias.name not in module.symbols:
                    module.broken_imports.add(decl.alias.name)
        self.open.pop()
        self.loaded[key] = module
        return module

    def _prefix(self, path: Path) -> str:
        """Return a prefix for qualified names that no other file has; none for the main file."""
        if not self.open:
            return ""
        stem = "".join(char if char.isalnum() else "_" for char in path.stem) or "file"
        prefix, number = stem, 2
        while prefix in self.prefixes:
            prefix, number = f"{stem}_{number}", number + 1
        self.prefixes.add(prefix)
        return prefix

    def _import(self, module: CheckedModule, decl: s.Import) -> None:
        name = decl.source.constant
        if not name:
            self.session.error("an import names a file by a constant text", decl.source)
            return
        path = module.folder / name
        key = path.resolve()
        if key in self.open:
            chain = [*self.open[self.open.index(key) :], key]
            shown = " -> ".join(part.name for part in chain)
            self.session.error(f"imports form a cycle: {shown}", decl.source)
            return
        target = self.loaded.get(key) or self._load_imported(path, decl)
        if target is not None:
            alias = decl.alias.name
            qualified = f"{module.prefix}.{alias}" if module.prefix else alias
            symbol = ImportSymbol(alias, qualified, module, decl, target)
            module.symbols.setdefault(alias, symbol)

    def _load_imported(self, path: Path, decl: s.Import) -> CheckedModule | None:
        if not path.is_file():
            self.session.error(f"there is no file `{path}`", decl.source)
            return None
        try:
            return self.load(path)
        except CompileErrors as errors:
            self.session.errors += [e for e in errors.exceptions if isinstance(e, CompileError)]
            return None
