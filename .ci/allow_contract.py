"""An import-linter contract that is an allow-list: what each layer may import, and nothing else.

import-linter's own contracts forbid named modules, so a new module would be allowed by default.
"""

from __future__ import annotations

import sys
from typing import Any

from grimp import ImportGraph
from importlinter.application import output
from importlinter.domain import fields
from importlinter.domain.contract import Contract, ContractCheck

Row = tuple[str, tuple[str, ...]]


def within(module: str, package: str) -> bool:
    """Say whether `module` is `package` or lies in it."""
    return module == package or module.startswith(package + ".")


def parse_row(text: str) -> Row:
    """Read `module -> allowed, allowed`; the modules on the right are given with their contents."""
    source, _, allowed = text.partition("->")
    return source.strip(), tuple(a.strip() for a in allowed.split(",") if a.strip())


def find_violations(rows: list[Row], imports: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the (importer, imported) pairs that the most specific row of the importer lacks."""
    violations: list[tuple[str, str]] = []
    for importer in sorted(imports):
        matching = [row for row in rows if within(importer, row[0])]
        if not matching:
            violations.append((importer, "(no row of the table covers this module)"))
            continue
        _, allowed = max(matching, key=lambda row: len(row[0]))
        violations += [
            (importer, imported)
            for imported in sorted(imports[importer])
            if imported.partition(".")[0] not in sys.stdlib_module_names
            and not any(within(imported, package) for package in allowed)
        ]
    return violations


class AllowContract(Contract):
    """`table` has a row for each layer; the longest row that fits a module decides."""

    type_name = "allow"
    root = fields.StringField()
    table = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Compare every import of the project with the table."""
        root = str(self.root)
        imports = {
            module: set(graph.find_modules_directly_imported_by(module))
            for module in graph.modules
            if within(module, root)
        }
        table: Any = self.table  # import-linter puts the list in place of the field
        rows = [parse_row(row) for row in table]
        violations = find_violations(rows, imports)
        return ContractCheck(kept=not violations, metadata={"violations": violations})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line for each import that the table does not allow."""
        for importer, imported in check.metadata["violations"]:
            output.print_error(f"{importer} may not import {imported}", bold=False)
        output.new_line()
