# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Builds CPU kernels and keeps the libraries on disk.

A library is found by its spec, the processor, the compiler's version and the digest of the sources
in this folder; the compiler is imported only when one is missing. It knows nothing of devices.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

from tokenloom.backends.device import DeviceError
from tokenloom.backends.kernels.cpu import Cpu, this_cpu
from tokenloom.kernel_spec import KernelSpec

OnBuild = Callable[[KernelSpec], None]
"""Told the spec of each kernel before it is compiled."""


def kernel_dir() -> Path:
    """Return kernels/ in $TOKENLOOM_CACHE, or in tokenloom/ of the user's cache directory."""
    chosen = os.environ.get("TOKENLOOM_CACHE")
    if chosen:
        return Path(chosen) / "kernels"
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "tokenloom" / "kernels"


@cache
def _build_key() -> str:
    digest = hashlib.sha256(version("apache-tvm").encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def library_path(spec: KernelSpec, cpu: Cpu) -> Path:
    """Return where the library of `spec` is kept, built or not."""
    return kernel_dir() / f"{cpu.key()}-{_build_key()}" / f"{spec.key()}.so"


def symbol_of(spec: KernelSpec) -> str:
    """Return the name of the kernel's function in its library."""
    return spec.key().replace("-", "_")


def build(
    specs: Iterable[KernelSpec], cpu: Cpu | None = None, on_build: OnBuild | None = None
) -> list[Path]:
    """Return the libraries of `specs`, in order, after building those that are not there yet.

    Raises DeviceError where one cannot be built or stored.
    """
    cpu = cpu or this_cpu()
    paths: list[Path] = []
    for spec in specs:
        path = library_path(spec, cpu)
        if not path.exists():
            if on_build:
                on_build(spec)
            _build_one(spec, cpu, path)
        paths.append(path)
    return paths


def _build_one(spec: KernelSpec, cpu: Cpu, path: Path) -> None:
    if not any(shutil.which(name) for name in ("g++", "gcc", "clang++", "clang", "c++", "cc")):
        raise DeviceError(f"host: building kernel {spec.op} needs a C compiler; install gcc")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            _compile(spec, cpu, made)
            os.replace(made, path)
    except OSError as error:
        raise DeviceError(
            f"host: kernel {spec.op} cannot be stored in {path.parent}: {error.strerror}"
            " (set TOKENLOOM_CACHE to another folder)"
        ) from error


def _compile(spec: KernelSpec, cpu: Cpu, path: Path) -> None:
    import tvm

    from tokenloom.backends.kernels.catalog import make_function

    target = tvm.target.Target(
        {
            "kind": "llvm",
            "mcpu": str(tvm.target.codegen.llvm_get_system_cpu()),
            "num-cores": cpu.num_cores,
            **_half_rounding(spec, cpu),
        }
    )
    name = symbol_of(spec)
    module = tvm.IRModule({name: make_function(name, spec, cpu)})
    tvm.compile(module, target=target).export_library(str(path))


def _half_rounding(spec: KernelSpec, cpu: Cpu) -> dict[str, list[str]]:
    """Return target options that keep both roundings of an FP16 multiply-add on a PIM stack.

    With instructions for FP16 the compiler would fuse the two; without, it rounds after each.
    """
    feature = {"x86_64": "-avx512fp16", "aarch64": "-fullfp16"}.get(cpu.machine)
    return {"mattr": [feature]} if spec.device == "pim" and feature else {}
