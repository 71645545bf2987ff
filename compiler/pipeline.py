"""The passes in order, grouped by phase; running them to a phase, with dumps and checks."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.utils.exceptions import VerifyException

from tokenloom.compiler.collector import collector_paused
from tokenloom.compiler.context import CompileContext
from tokenloom.compiler.options import CompileOptions
from tokenloom.compiler.plan import Plan
from tokenloom.ir.printing import print_module
from tokenloom.ir.verify import PHASES, Phase, verify_locations, verify_module, verify_phase

PassType = type[ModulePass]


def _ours(name: str) -> PassType:
    """Import the pass `name` from the file of that name."""
    stem = name.replace("-", "_")
    module = importlib.import_module(f"tokenloom.compiler.transforms.{stem}")
    return cast("PassType", getattr(module, stem.title().replace("_", "")))


def _cse() -> PassType:
    from xdsl.transforms.common_subexpression_elimination import CommonSubexpressionElimination

    return CommonSubexpressionElimination


def _dce() -> PassType:
    from xdsl.transforms.dead_code_elimination import DeadCodeElimination

    return DeadCodeElimination


PIPELINE: Mapping[Phase, tuple[str, ...]] = {
    "flow": ("inline-workflows", "segment-prompts", "cse", "dce"),
    "kv": ("lower-flow-to-kv", "cse", "dce", "plan-reuse", "rank-agents"),
    "nn": ("import-model", "place-attention"),
    "exec": ("lower-nn-to-exec", "lower-kv-to-exec", "release-contexts", "verify-timeline"),
}
"""The passes of each phase, in order."""

XDSL_PASSES: Mapping[str, Callable[[], PassType]] = {"cse": _cse, "dce": _dce}

PASSES: Mapping[str, Callable[[], PassType]] = {
    name: XDSL_PASSES.get(name, partial(_ours, name))
    for phase in PIPELINE.values()
    for name in phase
}
"""How to get each pass by name; a pass is imported when it is asked for."""


class PassError(Exception):
    """A pass left IR that does not verify: a fault of the compiler, not of the program."""

    def __init__(self, pass_name: str, cause: Exception, dump: Path | None):
        where = f"; the IR is in {dump}" if dump else "; run with --dump-ir DIR to see the IR"
        super().__init__(f"after pass {pass_name}: {cause}{where}")
        self.pass_name = pass_name


@dataclass(frozen=True)
class LoweringResult:
    """The module, lowered in place to `phase`, and the plan with all decisions made on the way."""

    module: ModuleOp
    plan: Plan
    phase: Phase


def lower(
    module: ModuleOp,
    options: CompileOptions,
    to: Phase = "exec",
    dump_dir: Path | None = None,
    context: CompileContext | None = None,
) -> LoweringResult:
    """Run all passes up to the end of phase `to` on a module of `flow`, in place.

    With `dump_dir`, the module is written before and after each pass (`00-build.mlir`,
    `01-inline-workflows.mlir`, ...), with places in the source. Raises CompileError for what the
    user can put right, ModelError and MachineError for what is named and not there, PassError
    where the IR does not verify.
    """
    ctx = context or CompileContext()
    ctx.base_dir = options.base_dir
    plan = ctx.plan
    plan.machine, plan.device, plan.mode = options.machine_name, options.device, options.mode
    dump = _Dump(dump_dir)
    dump.write("build", module)
    with collector_paused():
        for phase in PHASES[: PHASES.index(to) + 1]:
            for name in PIPELINE[phase]:
                _run(make_pass(name, options), ctx, module, dump)
                if options.verify:
                    _verify(name, module, dump)
            _verify_phase(PIPELINE[phase][-1], module, phase, dump)
        if not options.verify:
            _verify(PIPELINE[to][-1], module, dump)
    return LoweringResult(module, plan, to)


def make_pass(name: str, options: CompileOptions) -> ModulePass:
    """Return the pass `name`, set up for `options`."""
    return PASSES[name]()(**_FIELDS.get(name, _no_fields)(options))


def _no_fields(options: CompileOptions) -> dict[str, object]:
    return {}


_FIELDS: Mapping[str, Callable[[CompileOptions], dict[str, object]]] = {
    "lower-flow-to-kv": lambda o: {"tier": "pim" if o.device == "pim" else "dense"},
    "plan-reuse": lambda o: {"machine": o.machine_name, "device": o.device},
    "rank-agents": lambda o: {"machine": o.machine_name, "device": o.device},
    "place-attention": lambda o: {"machine": o.machine_name, "device": o.device},
    "lower-nn-to-exec": lambda o: {"mode": o.mode, "max_rows": o.max_rows},
}
"""What the options say to each pass."""


def _run(one: ModulePass, ctx: CompileContext, module: ModuleOp, dump: _Dump) -> None:
    try:
        one.apply(ctx, module)
    except VerifyException as error:
        raise PassError(one.name, error, dump.last) from error
    dump.write(one.name, module)


def _verify(name: str, module: ModuleOp, dump: _Dump) -> None:
    try:
        verify_module(module)
        verify_locations(module)
    except VerifyException as error:
        raise PassError(name, error, dump.last) from error


def _verify_phase(name: str, module: ModuleOp, phase: Phase, dump: _Dump) -> None:
    try:
        verify_phase(module, phase)
    except VerifyException as error:
        raise PassError(name, error, dump.last) from error


class _Dump:
    """A numbered file after each pass, where a folder is given."""

    def __init__(self, folder: Path | None):
        self.folder = folder
        self.last: Path | None = None
        self._count = 0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, module: ModuleOp) -> None:
        if self.folder is None:
            return
        path = self.folder / f"{self._count:02}-{name}.mlir"
        with path.open("w", encoding="utf-8") as file:
            print_module(module, file, locations=True)
        self.last, self._count = path, self._count + 1
