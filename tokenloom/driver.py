"""The whole way, from source to bundle to result, for the command line and `import tokenloom`.

It joins the layers and decides nothing itself.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from errno import EISDIR
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from tokenloom.compiler.diagnostics import Diagnostic
    from tokenloom.compiler.options import CompileOptions
    from tokenloom.compiler.plan import Plan
    from tokenloom.ir.verify import Phase
    from tokenloom.runtime.listener import Listener
    from tokenloom.runtime.session import RunOptions, RunResult
    from tokenloom.runtime.steps import Program

_VERSIONED = ("tokenloom", "apache-tvm", "apache-tvm-ffi", "xdsl")


@dataclass(frozen=True)
class Compiled:
    """A script that has been lowered: its IR, the plan, and what the checker warned of."""

    script: Path
    options: CompileOptions
    module: ModuleOp
    plan: Plan
    warnings: tuple[Diagnostic, ...]


@dataclass(frozen=True)
class Loaded:
    """A program ready to run, the plan it was made with, and where its models' paths start."""

    program: Program
    plan: Mapping[str, Any]
    base_dir: Path


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
    from tokenloom.compiler.collector import collector_paused
    from tokenloom.compiler.frontend.build import build
    from tokenloom.compiler.frontend.check import check_file
    from tokenloom.compiler.options import CompileOptions
    from tokenloom.compiler.pipeline import lower

    path = Path(script)
    options = options or CompileOptions(base_dir=path.parent)
    with collector_paused():
        checked = check_file(path)
        lowered = lower(build(checked), options, to=to, dump_dir=dump_dir)
    return Compiled(path, options, lowered.module, lowered.plan, tuple(checked.warnings))


def module_text(compiled: Compiled, *, locations: bool = False) -> str:
    """Return the IR as text, with places in the source if asked for."""
    from tokenloom.ir.printing import module_text as print_text

    return print_text(compiled.module, locations=locations)


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all. Raises OSError that names it."""
    from tokenloom.models.cache import write_whole

    with _naming(path):
        write_whole(path, text)


@contextmanager
def _naming(path: Path) -> Generator[None]:
    """Let an OSError name the file that a person asked for, not one on the way to it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from error


def _check_writable(path: Path) -> None:
    """Raise OSError where a file could not be written, as far as can be told before."""
    with _naming(path):
        if path.is_dir():
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def write_bundle(compiled: Compiled, folder: Path) -> None:
    """Write a compiled script as a bundle, whole or not at all. Raises BundleError."""
    from tokenloom.ir.exec_model import ModelOp
    from tokenloom.runtime.bundle import Manifest
    from tokenloom.runtime.bundle import write_bundle as write

    models = {
        op.sym_name.data: {"source": op.source.data if op.source else "", "digest": op.digest.data}
        for op in compiled.module.body.block.ops
        if isinstance(op, ModelOp)
    }
    manifest = Manifest(
        versions={name: version(name) for name in _VERSIONED},
        models=models,
        device=compiled.options.device,
        mode=compiled.options.mode,
        base_dir=str(compiled.options.base_dir.resolve()),
    )
    program = module_text(compiled, locations=True)
    write(folder, manifest, program, compiled.plan.to_json())


def load(folder: Path | str) -> Loaded:
    """Read a bundle; the compiler is not needed. Raises BundleError."""
    from tokenloom.runtime.bundle import read_bundle
    from tokenloom.runtime.errors import BundleError
    from tokenloom.runtime.program import ProgramError, decode, parse

    bundle = read_bundle(Path(folder))
    try:
        program = decode(parse(bundle.program, str(bundle.path / "program.mlir")))
    except ProgramError as error:
        raise BundleError(f"{folder} is of another version: {error}; compile it again") from error
    return Loaded(program, bundle.plan, Path(bundle.manifest.base_dir))


def loaded(compiled: Compiled) -> Loaded:
    """Return a compiled script ready to run, without a bundle."""
    from tokenloom.runtime.program import decode

    return Loaded(decode(compiled.module), compiled.plan.to_json(), compiled.options.base_dir)


def with_fallback(options: CompileOptions, note: Callable[[str], None]) -> CompileOptions:
    """Return options that this machine can run: without a GPU `cuda` becomes `host`, noted."""
    if options.device != "cuda":
        return options
    from tokenloom.backends.device import DeviceError
    from tokenloom.backends.registry import open_device

    try:
        open_device("cuda", options.mode).close()
    except DeviceError as error:
        note(f"{error}; running on host instead")
        return replace(options, device="host")
    return options


def run(
    program: Loaded | Path | str,
    inputs: Mapping[str, Any] | None = None,
    options: RunOptions | None = None,
    *,
    listener: Listener | None = None,
    trace_path: Path | None = None,
) -> RunResult:
    """Run a workflow of a loaded program, a bundle or a script.

    Raises what compiling and loading raise, InputError for the inputs, RunError where the program
    fails, DeviceError where the machine cannot do it, OSError where the trace cannot be written.
    The trace is written also when the run fails.
    """
    from tokenloom.runtime.session import RunOptions, run_program
    from tokenloom.runtime.trace import Trace

    if not isinstance(program, Loaded):
        path = Path(program)
        program = load(path) if path.is_dir() else loaded(compile(path))
    options = replace(options or RunOptions(), base_dir=program.base_dir)
    if trace_path:
        _check_writable(trace_path)
    trace = Trace()
    try:
        return run_program(program.program, inputs or {}, options, listener, trace)
    finally:
        if trace_path:
            trace.write(trace_path)


def closing_figures(program: Loaded, result: RunResult) -> dict[str, object]:
    """Return what a person wants to know of a run, predicted beside measured time."""
    stats = result.stats
    predicted = sum(float(w["total_ns"]) for w in program.plan["workflows"]) / 1e9
    figures = _pim_figures(stats)
    reused = stats["reused_prefix_tokens"] + stats["reused_linked_tokens"]
    return {
        "asks": int(stats["asks"]),
        "prompt tokens": int(stats["prompt_tokens"]),
        "reused": f"{reused:,.0f} ({reused / max(1.0, stats['prompt_tokens']):.0%})",
        "generated": int(stats["output_tokens"]),
        "tokens/s": float(stats["output_tokens_per_s"]),
        "loading": f"{stats['load_ms'] / 1e3:.2f} s",
        "measured": f"{stats['run_ms'] / 1e3:.2f} s",
        "predicted": f"{predicted:.2f} s on {program.plan['machine']} (every answer at its budget)",
        **figures,
    }


def _pim_figures(stats: Mapping[str, float]) -> dict[str, object]:
    """Return what the modelled memory stack took, and how much of attention ran in it."""
    if "pim_time_ms" not in stats:
        return {}
    share = stats.get("pim_attention_share", 0.0)
    return {
        "PIM time": f"{stats['pim_time_ms']:,.1f} ms (model of the stack, not its simulation)",
        "PIM energy": f"{stats['pim_energy_mj']:,.1f} mJ",
        "near memory": f"{share:.0%} of attention (pairs of a row and a token it attends to)",
    }
