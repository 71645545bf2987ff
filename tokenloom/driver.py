"""The whole way, from source to bundle to result, for the command line and `import tokenloom`.

It joins the layers and decides nothing itself.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from tokenloom.compiler.diagnostics import Diagnostic
    from tokenloom.compiler.options import CompileOptions
    from tokenloom.compiler.plan import Plan
    from tokenloom.ir.verify import Phase


@dataclass(frozen=True)
class Compiled:
    """A script that has been lowered: its IR, the plan, and what the checker warned of."""

    script: Path
    options: CompileOptions
    module: ModuleOp
    plan: Plan
    warnings: tuple[Diagnostic, ...]


def check(script: Path) -> tuple[Diagnostic, ...]:
    """Check a script and return the warnings. Raises CompileErrors with all errors."""
    from tokenloom.compiler.frontend.check import check_file

    return tuple(check_file(script).warnings)


def compile(
    script: Path | str,
    options: CompileOptions | None = None,
    *,
    to: Phase = "exec",
    dump_dir: Path | None = None,
) -> Compiled:
    """Lower a script to a phase.

    With `dump_dir`, the IR after each pass is written there. Raises CompileErrors or CompileError
    for a wrong program, ModelError and MachineError for what it names.
    """
    from tokenloom.compiler.frontend.build import build
    from tokenloom.compiler.frontend.check import check_file
    from tokenloom.compiler.options import CompileOptions
    from tokenloom.compiler.pipeline import lower

    path = Path(script)
    options = options or CompileOptions(base_dir=path.parent)
    checked = check_file(path)
    lowered = lower(build(checked), options, to=to, dump_dir=dump_dir)
    return Compiled(path, options, lowered.module, lowered.plan, tuple(checked.warnings))


def module_text(compiled: Compiled, *, locations: bool = False) -> str:
    """Return the IR as text, with places in the source if asked for."""
    from tokenloom.ir.printing import module_text as print_text

    return print_text(compiled.module, locations=locations)


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
