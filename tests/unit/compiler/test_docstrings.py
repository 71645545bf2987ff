from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import pytest
from xdsl.parser import Parser

from tokenloom.ir.dialects import DIALECTS, make_context
from tokenloom.ir.verify import verify_module

OURS = ("flow", "kv", "nn", "exec")
BLOCK = re.compile(r"```mlir\n(.*?)```", re.DOTALL)


def examples() -> Iterator[tuple[str, str]]:
    for dialect in DIALECTS:
        if dialect.name in OURS:
            for op in dialect.operations:
                for text in BLOCK.findall(inspect.getdoc(op) or ""):
                    # `…` stands for properties that the example is not about
                    if "…" not in text:
                        yield op.name, text


def test_there_are_examples() -> None:
    assert {name for name, _ in examples()} >= {"flow.text", "flow.segment", "flow.binary"}


@pytest.mark.parametrize(("name", "text"), list(examples()))
def test_the_example_of_an_op_holds_that_op(name: str, text: str) -> None:
    module = Parser(make_context(), text).parse_module()
    verify_module(module)
    assert any(op.name == name for op in module.walk())
