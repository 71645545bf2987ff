"""From an `exec.model` op to a model executable."""

from __future__ import annotations

import json
from typing import cast

from xdsl.dialects.builtin import IntegerAttr, StringAttr
from xdsl.ir import Attribute, Operation

from tokenloom.ir.exec_model import BufferOp, CopyOp, LaunchOp, ModelOp, WeightOp
from tokenloom.runtime.executable import (
    BufferDecl,
    CopyStep,
    Launch,
    ModelExecutable,
    Role,
    RowSet,
    Step,
    WeightDecl,
)


def decode_model(op: ModelOp) -> ModelExecutable:
    """Return the op as plain data. Raises ExecutableError where it contradicts itself."""
    ops = list(op.body.block.ops)
    return ModelExecutable(
        model=op.sym_name.data,
        config=json.loads(op.config.data),
        page_tokens=op.page_tokens.value.data,
        max_rows=op.max_rows.value.data,
        buffers=tuple(_buffer(o) for o in ops if isinstance(o, BufferOp)),
        weights=tuple(_weight(o) for o in ops if isinstance(o, WeightOp)),
        steps=tuple(_step(o) for o in ops if isinstance(o, LaunchOp | CopyOp)),
    )


def _buffer(op: BufferOp) -> BufferDecl:
    return BufferDecl(
        name=op.sym_name.data,
        shape=tuple(_name_or_number(size) for size in op.shape),
        dtype=op.dtype.data,
        role=cast("Role", op.role.data),
        device=op.device.data,
    )


def _weight(op: WeightOp) -> WeightDecl:
    kernel = None if op.kernel is None else op.kernel.spec()
    return WeightDecl(op.sym_name.data, kernel, op.device.data)


def _step(op: Operation) -> Step:
    if isinstance(op, CopyOp):
        rows = cast("RowSet", op.rows.data.value)
        return CopyStep(op.source.data, op.target.data, rows)
    assert isinstance(op, LaunchOp)
    kernel = op.kernel.spec()
    return Launch(
        kernel=kernel,
        device=kernel.device,
        arguments=tuple(_name_or_number(argument) for argument in op.arguments),
        rows=cast("RowSet", op.rows.data.value),
    )


def _name_or_number(value: Attribute) -> str | int:
    if isinstance(value, StringAttr):
        return value.data
    assert isinstance(value, IntegerAttr)
    return value.value.data
