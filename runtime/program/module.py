"""A whole module to plain data: a bundle's `exec` module, or a `flow` module for the reference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.parser import Parser
from xdsl.utils.exceptions import ParseError, VerifyException

from tokenloom.ir import declarations, exec
from tokenloom.ir.dialects import make_context
from tokenloom.ir.exec_model import ModelOp as ExecModelOp
from tokenloom.ir.verify import verify_module
from tokenloom.runtime.program.blocks import BlockDecoder, ProgramError
from tokenloom.runtime.program.model import decode_model
from tokenloom.runtime.program.places import place_of
from tokenloom.runtime.steps import AgentSpec, Program, Workflow
from tokenloom.runtime.tools import ToolSpec

OpT = TypeVar("OpT", bound=Operation)


def parse(text: str, name: str = "program.mlir") -> ModuleOp:
    """Read a module and verify it. Raises ProgramError."""
    try:
        module = Parser(make_context(), text, name).parse_module()
        verify_module(module)
    except (ParseError, VerifyException, ValueError) as error:
        raise ProgramError(f"{name} is not a valid program: {error}") from error
    return module


def decode(module: ModuleOp) -> Program:
    """Return what a module says, as plain data. Raises ProgramError for what cannot be run."""
    ops = list(module.body.block.ops)
    executables = {op.sym_name.data: op for op in ops if isinstance(op, ExecModelOp)}
    models = {
        op.sym_name.data: op.source.data for op in ops if isinstance(op, declarations.ModelOp)
    }
    for name, op in executables.items():
        if op.source is None:
            raise ProgramError(f"exec.model @{name} does not say which model it is")
        models[name] = op.source.data
    return Program(
        models=models,
        agents={a.name: a for a in map(_agent, _of(ops, declarations.AgentOp))},
        tools={t.name: t for t in map(_tool, _of(ops, declarations.ToolOp))},
        workflows={w.name: w for w in map(_workflow, ops) if w is not None},
        executables={name: decode_model(op) for name, op in executables.items()},
        digests={name: op.digest.data for name, op in executables.items()},
    )


def _of(ops: list[Operation], kind: type[OpT]) -> list[OpT]:
    return [op for op in ops if isinstance(op, kind)]


def _agent(op: declarations.AgentOp) -> AgentSpec:
    return AgentSpec(
        name=op.sym_name.data,
        model=op.model.root_reference.data,
        params=tuple(param.data for param in op.params),
        temperature=float(op.temperature.value.data),
        top_p=float(op.top_p.value.data),
        seed=None if op.seed is None else op.seed.value.data,
        stop=tuple(text.data for text in op.stop),
        importance=op.importance.value.data,
        history=op.history.value.data,
        may_link=op.reuse.data is declarations.Reuse.LINKED,
        system=BlockDecoder().block(op.body.block),
    )


def _tool(op: declarations.ToolOp) -> ToolSpec:
    return ToolSpec(
        name=op.sym_name.data,
        params=tuple(param.data for param in op.params),
        result=cast("Mapping[str, Any]", json.loads(op.result.data)),
        directory=Path(op.directory.data) if op.directory else Path(),
        timeout_ns=op.timeout_ns.value.data,
        impl=op.impl.data if op.impl else None,
        command=tuple(text.data for text in op.command) if op.command else None,
        retries=op.retries.value.data,
        is_effect=op.effect is not None and bool(op.effect.value.data),
        place=place_of(op),
    )


def _workflow(op: Operation) -> Workflow | None:
    if not isinstance(op, declarations.WorkflowOp | exec.WorkflowOp):
        return None
    return Workflow(
        name=op.sym_name.data,
        inputs=tuple(json.loads(op.inputs.data)),
        result=json.loads(op.result.data),
        body=BlockDecoder().block(op.body.block),
    )
