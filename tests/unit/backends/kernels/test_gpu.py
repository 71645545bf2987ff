# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
from __future__ import annotations

import json
import shutil
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray

from tokenloom.backends.device import Device, DeviceError
from tokenloom.backends.host_memory import aligned_zeros
from tokenloom.backends.kernel_ops import OPS
from tokenloom.backends.kernels.build import symbol_of
from tokenloom.backends.kernels.gpu_build import emit_cuda, make_function
from tokenloom.backends.kernels.native import Call, NativeFunction, TensorView
from tokenloom.backends.registry import open_device
from tokenloom.kernel_spec import KernelSpec

Array = NDArray[Any]
HEADS = {"num_heads": 6, "num_kv_heads": 2, "head_dim": 48}
DIMS: dict[str, dict[str, int]] = {
    "embed": {"vocab": 30, "hidden": 144},
    "rms_norm": {"hidden": 144},
    "linear": {"inputs": 40, "outputs": 200},
    "linear_bias": {"inputs": 40, "outputs": 130},
    "head_norm": HEADS,
    "kv_append": {**HEADS, "page_tokens": 16},
    "attention_prefill": {**HEADS, "page_tokens": 16},
    "attention_decode": {**HEADS, "page_tokens": 16},
    "silu_mul": {"ffn": 144},
    "add": {"hidden": 144},
    "take_rows": {"hidden": 144},
}
QKV_WIDTH, NUM_ROWS, NUM_PAGES = 10 * 48, 11, 5


def spec_of(op: str, device: str) -> KernelSpec:
    attrs = tuple((name, 1e-5) for name in OPS[op].attrs)
    return KernelSpec(op, tuple(sorted(DIMS[op].items())), attrs, device=device)


def arguments_of(op: str, rng: np.random.Generator) -> list[Array | int]:
    def floats(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    def ints(*values: int) -> Array:
        return np.array(values, np.int32)

    n = NUM_ROWS - 1
    pools = [floats(NUM_PAGES, 2, 48, 16), floats(NUM_PAGES, 2, 16, 48)]
    tables = [floats(64, 24), floats(64, 24)]
    indices = ints(*rng.integers(0, 30, NUM_ROWS).tolist())
    qkv = floats(NUM_ROWS, QKV_WIDTH)
    table = [ints(0, 2, 5), ints(3, 0, 1, 1, 4), ints(0, 0, 0, 16, 21), ints(0, 16, 0, 16, 21)]
    attention = [
        qkv,
        ints(20, 25, 3, 30, 0, 15, 16, 17, 5, 2, 1),
        ints(0, 1, 1, 1, 0, 0, 0, 1, 1, 0, 1),
        *table,
        ints(16, 5, 16, 5, 12),
        *tables,
        *pools,
        np.zeros((NUM_ROWS, 6 * 48), np.float32),
    ]
    slots = ints(0, 17, -1, 34, 79, 48, 5, 6, 7, 8, 9)
    made: dict[str, list[Array | int]] = {
        "embed": [indices, floats(30, 144), floats(NUM_ROWS, 144), n],
        "rms_norm": [floats(NUM_ROWS, 144), floats(144), floats(NUM_ROWS, 144), n],
        "linear": [floats(NUM_ROWS, 40), floats(200, 40), floats(NUM_ROWS, 200), n],
        "linear_bias": [
            floats(NUM_ROWS, 40),
            floats(130, 40),
            floats(130),
            floats(NUM_ROWS, 130),
            n,
        ],
        "head_norm": [qkv, floats(48), floats(48), n],
        "kv_append": [qkv, indices, slots, *tables, *pools, n],
        "attention_prefill": [*attention, 2, n - 2],
        "attention_decode": [*attention, 0, n],
        "silu_mul": [floats(NUM_ROWS, 288), floats(NUM_ROWS, 144), n],
        "add": [floats(NUM_ROWS, 144), floats(NUM_ROWS, 144), n],
        "take_rows": [floats(30, 144), indices, floats(NUM_ROWS, 144), n],
    }
    return made[op]


def written_by_host(host: Device, spec: KernelSpec, arguments: list[Array | int]) -> list[Array]:
    passed: list[Any] = []
    for schema, value in zip(OPS[spec.op].arguments, arguments, strict=True):
        if isinstance(value, int):
            passed.append(value)
        elif schema.kind == "weight":
            passed.append(host.prepare_weight(spec, value))
        else:
            passed.append(host.allocate(value.shape, str(value.dtype)))
            host.write(passed[-1], value)
    host.launch(host.load(spec), passed)
    kinds = [argument.kind for argument in OPS[spec.op].arguments]
    return [
        host.read(buffer)
        for kind, buffer in zip(kinds, passed, strict=True)
        if kind in ("output", "inout", "pool")
    ]


def written_by_loops(spec: KernelSpec, arguments: list[Array | int], path: Path) -> list[Array]:
    """The GPU's function with its blocks and threads run one after the other."""
    name = symbol_of(spec)
    module = tvm.IRModule({name: make_function(spec, to_gpu=False)})
    tvm.compile(module, target=tvm.target.Target("llvm")).export_library(str(path))
    arrays: list[Array] = []
    for schema, value in zip(OPS[spec.op].buffers, arguments, strict=False):
        assert isinstance(value, np.ndarray)
        given = value.T if schema.kind == "weight" and "linear" in spec.op else value
        arrays.append(aligned_zeros(given.shape, str(given.dtype)))
        arrays[-1][:] = given
    scalars = [value for value in arguments if isinstance(value, int)]
    views = [TensorView(array) for array in arrays]
    Call(NativeFunction(path, name, holds_lock=False), views, len(scalars))(scalars)
    kinds = [argument.kind for argument in OPS[spec.op].buffers]
    return [
        array
        for kind, array in zip(kinds, arrays, strict=True)
        if kind in ("output", "inout", "pool")
    ]


@pytest.mark.parametrize("op", sorted(DIMS))
def test_gpu_functions_compute_what_the_host_computes(
    host: Device, rng: np.random.Generator, tmp_path: Path, op: str
) -> None:
    arguments = arguments_of(op, rng)
    expected = written_by_host(host, spec_of(op, "host"), arguments)
    given = written_by_loops(spec_of(op, "cuda"), arguments, tmp_path / "kernel.so")
    for ours, theirs in zip(given, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_every_operation_has_a_source_and_with_nvcc_a_binary(tmp_path: Path) -> None:
    assert set(DIMS) == set(OPS)
    made = emit_cuda([spec_of(op, "cuda") for op in sorted(DIMS)], tmp_path, "sm_90")
    for kernel in made:
        assert f"{kernel.function}(" in kernel.source.read_text()
        facts = json.loads(kernel.source.with_suffix(".json").read_text())
        assert KernelSpec.from_json(facts["spec"]) == kernel.spec
        names = {argument.name for argument in OPS[kernel.spec.op].arguments}
        assert set(kernel.parameters) == names
        if shutil.which("nvcc"):
            assert kernel.binary is not None
            assert kernel.binary.read_bytes()[:4] == b"\x7fELF"
        else:
            assert kernel.binary is None


def test_threads_wait_for_each_other_only_where_all_of_them_come(tmp_path: Path) -> None:
    """A barrier stands in the loop over pages, or outside of loops; never under a condition."""
    source = emit_cuda([spec_of("attention_decode", "cuda")], tmp_path)[0].source.read_text()
    indents = [
        len(line) - len(line.lstrip())
        for line in source.splitlines()
        if line.strip() == "__syncthreads();"
    ]
    assert indents == [4, 4]


def test_a_missing_gpu_is_said_in_one_line() -> None:
    if find_library("cuda"):
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceError, match=r"^cuda: no GPU here[^\n]*$"):
        open_device("cuda")
