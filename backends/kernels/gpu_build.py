# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Emits the CUDA source of kernels and compiles it to binaries where nvcc is.

Needs no GPU. Beside each source lies a JSON file with the parameters' names in the order in which
the compiled function takes them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenloom.backends.device import DeviceError
from tokenloom.backends.kernels.build import symbol_of
from tokenloom.backends.kernels.gpu_blocks import THREADS, TILE_ROWS
from tokenloom.kernel_spec import KernelSpec

ARCH = "sm_90"

_SIGNATURE = re.compile(r"__global__ void __launch_bounds__\((\d+)\) (\w+)\(([^)]*)\) \{")


@dataclass(frozen=True)
class GpuKernel:
    """The files of one kernel; `binary` is None where no nvcc was found."""

    spec: KernelSpec
    source: Path
    binary: Path | None
    function: str
    parameters: tuple[str, ...]
    threads: int


def emit_cuda(specs: Iterable[KernelSpec], out_dir: Path, arch: str = ARCH) -> list[GpuKernel]:
    """Write `KEY.cu`, `KEY.json` and, with nvcc, `KEY.cubin` of each kernel into `out_dir`.

    Raises DeviceError when nvcc refuses a source.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    return [_emit_one(spec, out_dir, arch) for spec in specs]


def make_function(spec: KernelSpec, to_gpu: bool = True) -> Any:
    """Return the TIR function of `spec`; with `to_gpu` false its threads are plain loops."""
    from tokenloom.backends.kernels import gpu_pages, gpu_rows

    name, bind = symbol_of(spec), gpu_rows.Bind(to_gpu)

    def sizes(*names: str) -> tuple[int, ...]:
        return tuple(spec.dim(dim) for dim in names)

    def call(make: Callable[..., Any], *dims: str, eps: bool = False) -> Callable[[], Any]:
        return lambda: make(name, *sizes(*dims), *([spec.attr("eps")] if eps else []), bind)

    heads = ("num_heads", "num_kv_heads", "head_dim")
    makers: Mapping[str, Callable[[], Any]] = {
        "embed": call(gpu_rows.embed, "vocab", "hidden"),
        "rms_norm": call(gpu_rows.rms_norm, "hidden", eps=True),
        "linear": call(gpu_rows.linear, "inputs", "outputs"),
        "linear_bias": call(gpu_rows.linear_bias, "inputs", "outputs"),
        "head_norm": call(gpu_rows.head_norm, *heads, eps=True),
        "kv_append": call(gpu_pages.kv_append, *heads, "page_tokens"),
        "attention_prefill": call(gpu_pages.attention, *heads, "page_tokens"),
        "attention_decode": call(gpu_pages.attention, *heads, "page_tokens"),
        "silu_mul": call(gpu_rows.silu_mul, "ffn"),
        "add": call(gpu_rows.add, "hidden"),
        "take_rows": call(gpu_rows.take_rows, "hidden"),
    }
    return makers[spec.op]()


def blocks(spec: KernelSpec, n: int) -> tuple[int, int]:
    """Return the blocks in x and y that a launch on `n` rows needs."""
    if spec.op in ("linear", "linear_bias"):
        return -(-spec.dim("outputs") // THREADS), -(-n // TILE_ROWS)
    if spec.op in ("attention_prefill", "attention_decode"):
        return n, spec.dim("num_kv_heads")
    return n, 1


def _emit_one(spec: KernelSpec, out_dir: Path, arch: str) -> GpuKernel:
    import tvm

    target = tvm.target.Target({"kind": "cuda", "arch": arch})
    module = tvm.IRModule({symbol_of(spec): make_function(spec)})
    text = str(tvm.compile(module, target=target).mod.imports[0].inspect_source())
    found = _SIGNATURE.search(text)
    if found is None:
        raise DeviceError(f"cuda: the source of {spec.op} has no kernel")
    threads, function, signature = found.groups()
    parameters = tuple(
        part.split()[-1].lstrip("*").removesuffix("_ptr") for part in signature.split(",")
    )
    source = out_dir / f"{spec.key()}.cu"
    source.write_text(text)
    facts = {"function": function, "parameters": parameters, "threads": int(threads)}
    source.with_suffix(".json").write_text(json.dumps({"spec": spec.to_json(), **facts}, indent=1))
    return GpuKernel(spec, source, _binary(source, arch), function, parameters, int(threads))


def _binary(source: Path, arch: str) -> Path | None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return None
    binary = source.with_suffix(".cubin")
    command = [nvcc, "-cubin", f"-arch={arch}", "-w", str(source), "-o", str(binary)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DeviceError(f"cuda: nvcc refused {source}: {done.stderr.strip()[:500]}")
    return binary
