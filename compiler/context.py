"""What passes share besides the module: the models that it names, and the plan they write."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from xdsl.context import Context

from tokenloom.compiler.plan import Plan
from tokenloom.ir.dialects import DIALECTS
from tokenloom.models.registry import Model, resolve


@dataclass
class CompileContext(Context):
    """A context with every dialect loaded. A pass run by the opt tool gets an empty plan."""

    base_dir: Path = Path()
    plan: Plan = field(default_factory=Plan)
    _models: dict[str, Model] = field(default_factory=dict[str, Model])

    def __post_init__(self) -> None:
        for dialect in DIALECTS:
            self.load_dialect(dialect)

    def model(self, source: str) -> Model:
        """Return the model of that name or path. Raises ModelError if there is none."""
        if source not in self._models:
            self._models[source] = resolve(source, self.base_dir)
        return self._models[source]


def compile_context(ctx: Context) -> CompileContext:
    """Return `ctx` as what it is in this compiler and its opt tool; TypeError for any other."""
    if not isinstance(ctx, CompileContext):
        raise TypeError("this pass needs the context of tokenloom-opt or of the pipeline")
    return ctx
