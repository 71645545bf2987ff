"""Models, tools and agent classes as ops of `flow`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from xdsl.dialects.builtin import (
    ArrayAttr,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    SymbolRefAttr,
    f64,
    i1,
    i64,
)
from xdsl.ir import Attribute, Block, Region, SSAValue

from tokenloom.compiler.diagnostics import unsupported
from tokenloom.compiler.frontend import syntax
from tokenloom.compiler.frontend.build_core import Core, name
from tokenloom.compiler.frontend.build_expressions import Expressions
from tokenloom.compiler.frontend.build_types import answer_type, ir_type
from tokenloom.compiler.frontend.checked import (
    AgentSettings,
    AgentSymbol,
    ModelSymbol,
    ParameterInfo,
    ToolSettings,
    ToolSymbol,
)
from tokenloom.ir.declarations import AgentOp, ModelOp, Reuse, ReuseAttr, ToolOp, YieldOp
from tokenloom.ir.text import TextAttr

_HISTORY_TURNS = {"keep": -1, "none": 0}


def build_model(core: Core, symbol: ModelSymbol, base: Path) -> ModelOp:
    """Build `flow.model`; a path of an imported file is made to start from `base`."""
    properties: dict[str, Attribute] = {
        "sym_name": StringAttr(symbol.qualified_name),
        "source": TextAttr(_source(symbol, base)),
    }
    if symbol.dtype is not None:
        properties["dtype"] = StringAttr(symbol.dtype)
    if symbol.adapter is not None:
        properties["adapter"] = TextAttr(symbol.adapter)
    op = ModelOp.build(properties=properties)
    op.location = core.location(symbol.decl)
    return op


def _source(symbol: ModelSymbol, base: Path) -> str:
    folder = symbol.module.folder
    path = folder / symbol.source
    return str(path) if folder != base and path.exists() else symbol.source


def build_tool(core: Core, symbol: ToolSymbol) -> ToolOp:
    """Build `flow.tool`; a `command` keeps `{parameter}`, with literal braces doubled."""
    settings = symbol.settings
    properties: dict[str, Attribute] = {
        "sym_name": StringAttr(symbol.qualified_name),
        "params": ArrayAttr([StringAttr(parameter.name) for parameter in symbol.parameters]),
        "types": ArrayAttr([answer_type(parameter.type) for parameter in symbol.parameters]),
        "result": answer_type(symbol.result),
        "timeout_ns": IntegerAttr(settings.timeout_ns, i64),
        "retries": IntegerAttr(settings.retries, i64),
        "directory": TextAttr(str(symbol.module.folder.resolve())),
        **_optional_settings(settings),
    }
    op = ToolOp.build(properties=properties)
    op.location = core.location(symbol.decl)
    return op


def _optional_settings(settings: ToolSettings) -> dict[str, Attribute]:
    properties: dict[str, Attribute] = {}
    if settings.impl is not None:
        properties["impl"] = TextAttr(settings.impl)
    if settings.command is not None:
        properties["command"] = ArrayAttr([TextAttr(_template(t)) for t in settings.command])
    if settings.takes_ns is not None:
        properties["takes_ns"] = IntegerAttr(settings.takes_ns, i64)
    if settings.stages_ns:
        properties["stages"] = TextAttr(json.dumps(dict(settings.stages_ns)))
    for flag, is_set in (("effect", settings.is_effect), ("pure", settings.is_pure)):
        if is_set:
            properties[flag] = IntegerAttr(1, i1)
    return properties


def _template(text: syntax.Text) -> str:
    pieces: list[str] = []
    for piece in text.pieces:
        if isinstance(piece, syntax.TextPiece):
            pieces.append(piece.text.replace("{", "{{").replace("}", "}}"))
        elif isinstance(piece.value, syntax.Name):
            pieces.append("{" + piece.value.name + "}")
        else:
            raise unsupported(piece.value, "an expression in a `command`: a parameter is;")
    return "".join(pieces)


def build_agent(core: Core, expressions: Expressions, symbol: AgentSymbol) -> AgentOp:
    """Build `flow.agent` with the parts of its system prompt."""
    settings = symbol.settings
    assert settings is not None
    block = Block(arg_types=[ir_type(parameter.type) for parameter in symbol.parameters])
    core.start(block)
    bind_parameters(core, symbol.parameters, block)
    parts: list[SSAValue] = []
    if settings.system is not None:  # an empty text is a turn, as is a value that is empty
        parts = expressions.parts(settings.system) or [core.text("", settings.system)]
    core.emit(YieldOp(*parts), symbol.decl)
    names = [StringAttr(parameter.name) for parameter in symbol.parameters]
    op = AgentOp.build(
        regions=[Region(block)],
        properties={
            "sym_name": StringAttr(symbol.qualified_name),
            "params": ArrayAttr(names),
            **_agent_settings(settings),
        },
    )
    op.location = core.location(symbol.decl)
    return op


def bind_parameters(core: Core, parameters: Sequence[ParameterInfo], block: Block) -> None:
    """Bind plain parameters to the arguments of a block."""
    for parameter, argument in zip(parameters, block.args, strict=True):
        name(argument, parameter.name)
        core.bindings[parameter.local] = argument


def _agent_settings(settings: AgentSettings) -> dict[str, Attribute]:
    turns = _HISTORY_TURNS.get(settings.history, settings.history_turns)
    assert turns is not None
    properties: dict[str, Attribute] = {
        "model": SymbolRefAttr(settings.model.qualified_name),
        "reuse": ReuseAttr(Reuse(settings.reuse)),
        "importance": IntegerAttr(settings.importance, i64),
        "temperature": FloatAttr(settings.temperature, f64),
        "top_p": FloatAttr(settings.top_p, f64),
        "stop": ArrayAttr([TextAttr(text) for text in settings.stop]),
        "history": IntegerAttr(turns, i64),
    }
    if settings.refresh is not None:
        properties["refresh"] = FloatAttr(settings.refresh, f64)
    if settings.seed is not None:
        properties["seed"] = IntegerAttr(settings.seed, i64)
    return properties
