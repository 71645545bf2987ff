"""What must hold of a whole module: dominance, known locations, and the dialects of a phase.

xDSL checks each op; these are the facts it does not check.
"""

from __future__ import annotations

from typing import Literal

from xdsl.dialects.builtin import ModuleOp, UnknownLoc
from xdsl.ir import Operation, SSAValue
from xdsl.utils.exceptions import VerifyException

Phase = Literal["flow", "kv", "nn", "exec"]
PHASES: tuple[Phase, ...] = ("flow", "kv", "nn", "exec")


def verify_dominance(root: Operation) -> None:
    """Raise VerifyException where a value is used before it is defined, or out of its region."""
    seen: set[SSAValue] = set()

    def visit(op: Operation) -> None:
        for operand in op.operands:
            if operand not in seen:
                name = operand.name_hint or "a value"
                raise VerifyException(f"{op.name} uses %{name} before it is defined")
        for region in op.regions:
            for block in region.blocks:
                seen.update(block.args)
                for child in block.ops:
                    visit(child)
        seen.update(op.results)

    visit(root)


def verify_locations(module: ModuleOp) -> None:
    """Raise VerifyException where an op has lost its place in the source."""
    for op in module.walk():
        if op is not module and isinstance(op.location, UnknownLoc):
            raise VerifyException(f"{op.name} has no location")


def verify_phase(module: ModuleOp, phase: Phase) -> None:
    """Raise VerifyException where the module holds an op that `phase` should have lowered."""
    gone = _LOWERED[phase]
    for op in module.walk():
        if op.name.startswith(gone):
            raise VerifyException(f"{op.name} is left after phase {phase}")


_LOWERED: dict[Phase, tuple[str, ...]] = {
    "flow": ("kv.", "nn.", "exec.", "flow.invoke"),
    "kv": ("flow.ask", "flow.history", "flow.invoke", "nn.", "exec."),
    "nn": ("flow.ask", "flow.history", "flow.invoke", "exec."),
    "exec": ("flow.ask", "flow.history", "flow.invoke", "flow.workflow", "kv.", "nn."),
}


def verify_module(module: ModuleOp) -> None:
    """Check everything that holds in every phase: xDSL's verifiers and dominance."""
    module.verify()
    verify_dominance(module)
