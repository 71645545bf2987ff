from __future__ import annotations

from collections.abc import Callable

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import CallSiteLoc, ModuleOp

from tokenloom.compiler.diagnostics import CompileError, place_key
from tokenloom.compiler.transforms.inline_workflows import InlineWorkflows
from tokenloom.ir.flow import CallOp

WORKFLOW = """
flow.workflow @{name} {{
  {body}
}} {{inputs = #flow.string<"[]">, result = #flow.string<"{{}}">}}
"""
CALL = (
    '%v = flow.invoke @{callee} {{place = #flow.string<"">}} -> !flow.text '
    'loc("a.loom":{line}:5)\n  flow.return %v : !flow.text'
)


def calling(name: str, callee: str, line: int) -> str:
    return WORKFLOW.format(name=name, body=CALL.format(callee=callee, line=line))


def test_recursion_is_an_error_with_its_place(parse: Callable[[str], ModuleOp]) -> None:
    module = parse(calling("a", "b", 3) + calling("b", "a", 9))
    with pytest.raises(CompileError) as caught:
        InlineWorkflows().apply(Context(), module)
    assert "a.loom:9:5: error: workflow `a` calls itself" in str(caught.value)
    assert "`a` calls `b` calls `a`" in str(caught.value)


def test_a_place_names_the_callee_and_the_call(parse: Callable[[str], ModuleOp]) -> None:
    tool = '%v = flow.call @t {place = #flow.string<"">} -> !flow.text loc("lib.loom":4:2)'
    callee = WORKFLOW.format(name="b", body=f"{tool}\n  flow.return %v : !flow.text")
    module = parse(calling("a", "b", 3) + callee)
    InlineWorkflows().apply(Context(), module)
    first = next(op for op in module.walk() if isinstance(op, CallOp))
    assert isinstance(first.location, CallSiteLoc)
    assert place_key(first.location) == ("lib.loom", 4, 2)
    assert place_key(first.location.caller) == ("a.loom", 3, 5)  # pyright: ignore
