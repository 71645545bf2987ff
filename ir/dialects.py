"""All dialects that a TokenLoom module may hold, by name."""

from __future__ import annotations

from xdsl.context import Context
from xdsl.dialects.arith import Arith
from xdsl.dialects.builtin import Builtin
from xdsl.dialects.scf import Scf
from xdsl.ir import Dialect

from tokenloom.ir.exec import EXEC
from tokenloom.ir.flow import FLOW
from tokenloom.ir.kv import KV
from tokenloom.ir.nn import NN

DIALECTS: tuple[Dialect, ...] = (Builtin, Arith, Scf, FLOW, KV, NN, EXEC)


def make_context() -> Context:
    """Return a context with every dialect registered; each is loaded when first met."""
    context = Context()
    for dialect in DIALECTS:
        context.load_dialect(dialect)
    return context
