from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, UnknownLoc
from xdsl.parser import Parser
from xdsl.passes import ModulePass

from tokenloom.backends.kernel_ops import OPS, schema_of
from tokenloom.backends.machine import MachineError
from tokenloom.compiler import pipeline
from tokenloom.compiler.kernel_signatures import SIGNATURES
from tokenloom.compiler.options import CompileOptions, TargetDevice
from tokenloom.compiler.pipeline import PASSES, PIPELINE, PassError, lower
from tokenloom.ir.dialects import make_context
from tokenloom.ir.exec_model import ModelOp
from tokenloom.ir.verify import PHASES, Phase, verify_module, verify_phase
from tokenloom.models.registry import ModelError
from tokenloom.runtime.executable import INPUTS, SIZES, Launch
from tokenloom.runtime.program.model import decode_model

Build = Callable[[str], ModuleOp]


@pytest.mark.parametrize("phase", PHASES)
def test_lowers_to_each_phase(debate: ModuleOp, phase: Phase) -> None:
    result = lower(debate, CompileOptions(verify=True), to=phase)
    assert result.phase == phase
    verify_module(result.module)
    verify_phase(result.module, phase)


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_has_the_name_of_its_file_and_says_before_and_after(name: str) -> None:
    found = PASSES[name]()
    assert found.name == name
    if name not in pipeline.XDSL_PASSES:
        assert found.__doc__
        assert "```mlir" in found.__doc__


def test_dumps_a_numbered_file_for_each_pass(debate: ModuleOp, tmp_path: Path) -> None:
    lower(debate, CompileOptions(), dump_dir=tmp_path)
    names = ["build", *(name for phase in PHASES for name in PIPELINE[phase])]
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [f"{number:02}-{name}.mlir" for number, name in enumerate(names)]
    for path in tmp_path.iterdir():
        module = Parser(make_context(), path.read_text("utf-8")).parse_module()
        verify_module(module)
        assert all(not isinstance(op.location, UnknownLoc) for op in module.walk())


@dataclass(frozen=True)
class LosesPlaces(ModulePass):
    name = "dce"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for inner in op.walk():
            inner.location = UnknownLoc()


def test_names_the_pass_that_broke_the_module(
    debate: ModuleOp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cast("dict[str, Any]", PASSES), "dce", lambda: LosesPlaces)
    with pytest.raises(PassError, match=r"after pass dce: .* has no location; .*04-dce.mlir"):
        lower(debate, CompileOptions(verify=True), dump_dir=tmp_path)


def test_the_garbage_collector_goes_on_afterwards(build_text: Build) -> None:
    with pytest.raises(ModelError, match="unknown model"):
        lower(build_text('model m = "nope"'), CompileOptions())
    assert gc.isenabled()


def test_an_unknown_machine_is_named(debate: ModuleOp) -> None:
    with pytest.raises(MachineError, match="this-hots"):
        lower(debate, CompileOptions(machine="this-hots"))


@pytest.mark.parametrize("device", ["host", "pim", "cuda"])
def test_the_step_program_is_one_that_the_runtime_takes(
    debate: ModuleOp, device: TargetDevice
) -> None:
    module = lower(debate, CompileOptions(device=device, mode="exact", max_rows=64)).module
    model = next(op for op in module.ops if isinstance(op, ModelOp))
    executable = decode_model(model)
    assert executable.max_rows == 64
    assert executable.kv_device == device
    assert executable.kv_dtype == ("float16" if device == "pim" else "float32")
    declared = executable.by_name | {weight.name: weight for weight in executable.weights}
    for step in executable.steps:
        if isinstance(step, Launch):
            schema = schema_of(step.kernel, step.device)
            assert len(step.arguments) == len(schema.arguments)
            names = step.arguments[: len(schema.buffers)]
            assert all(declared[str(name)].device == step.device for name in names)
    inputs = {buffer.input_name for buffer in executable.buffers if buffer.role == "input"}
    assert inputs <= set(INPUTS)
    sizes = {size for buffer in executable.buffers for size in buffer.shape}
    assert {size for size in sizes if isinstance(size, str)} <= set(SIZES)


def test_signatures_are_those_of_the_kernels() -> None:
    assert set(SIGNATURES) == set(OPS)
    for name, schema in OPS.items():
        signature = SIGNATURES[name]
        weights = [argument.name for argument in schema.arguments if argument.kind == "weight"]
        assert signature.dims == schema.dims
        assert signature.attrs == schema.attrs
        assert signature.arguments == tuple(argument.name for argument in schema.arguments)
        assert signature.scalars == tuple(argument.name for argument in schema.scalars)
        assert ([signature.weight] if signature.weight else []) == weights
