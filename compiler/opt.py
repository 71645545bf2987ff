"""tokenloom-opt: xDSL's opt tool with our dialects and passes, and our errors.

`UNIVERSE` is how xdsl-opt and xdsl-gui find the same dialects and passes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Dialect
from xdsl.universe import Universe
from xdsl.utils.exceptions import DiagnosticException, ParseError
from xdsl.xdsl_opt_main import xDSLOptMain

from tokenloom.backends.machine import MachineError
from tokenloom.compiler.context import CompileContext
from tokenloom.compiler.diagnostics import CompileError, CompileErrors
from tokenloom.compiler.pipeline import PASSES, XDSL_PASSES
from tokenloom.ir.exec import EXEC
from tokenloom.ir.flow import FLOW
from tokenloom.ir.kv import KV
from tokenloom.ir.nn import NN
from tokenloom.ir.verify import verify_module
from tokenloom.models.registry import ModelError

USER_ERRORS = (CompileError, CompileErrors, MachineError, ModelError)


def _get(dialect: Dialect) -> Dialect:
    return dialect


OURS: dict[str, Callable[[], Dialect]] = {
    dialect.name: partial(_get, dialect) for dialect in (FLOW, KV, NN, EXEC)
}
UNIVERSE = Universe(
    all_dialects=OURS,
    all_passes={name: get for name, get in PASSES.items() if name not in XDSL_PASSES},
)


class Opt(xDSLOptMain):
    """The tool: as xdsl-opt, and it checks dominance and shows a user's mistakes as messages."""

    def __init__(self, args: Sequence[str] | None = None):
        super().__init__("TokenLoom's optimizer driver", args)

    def register_all_dialects(self) -> None:
        """Register what our modules hold, all of it loaded."""
        self.ctx = CompileContext()

    def register_all_passes(self) -> None:
        """Register the passes of the pipeline."""
        self.available_passes.update(PASSES)

    def parse_chunk(
        self, chunk: object, file_extension: str, start_offset: int = 0
    ) -> ModuleOp | None:
        """Parse one piece of the input; its plan starts empty."""
        assert isinstance(self.ctx, CompileContext)
        self.ctx.plan.decisions.clear()
        self.ctx.plan.reuse.clear()
        return super().parse_chunk(chunk, file_extension, start_offset)  # pyright: ignore

    def apply_passes(self, prog: ModuleOp) -> None:
        """Apply the passes, then check what xDSL's verifiers leave out."""
        try:
            super().apply_passes(prog)
        except USER_ERRORS as error:
            raise DiagnosticException(str(error)) from error
        if not self.args.disable_verify:
            verify_module(prog)


def main() -> None:
    """Run the tool; a fault of the input is one message and exit code 2."""
    try:
        Opt().run()
    except (DiagnosticException, ParseError, OSError, ValueError) as error:
        print(f"tokenloom-opt: {error}", file=sys.stderr)
        raise SystemExit(2) from None
