from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.arith import ConstantOp
from xdsl.dialects.builtin import FileLineColLoc, IntAttr, IntegerAttr, ModuleOp, StringAttr, i1
from xdsl.dialects.scf import ConditionOp, WhileOp, YieldOp
from xdsl.ir import Block, Region
from xdsl.parser import Parser

from tokenloom.ir.dialects import make_context
from tokenloom.ir.printing import module_text
from tokenloom.ir.types import RecordType, TextType
from tokenloom.ir.values import FieldOp, RecordOp, TextOp

LOCATION = FileLineColLoc(StringAttr("/home/josé/a.loom"), IntAttr(3), IntAttr(5))


def reprinted(text: str) -> str:
    return module_text(Parser(make_context(), text).parse_module(), locations=True)


PLAIN = st.text(st.characters(exclude_categories=("C",), exclude_characters='"\\'), min_size=1)


@given(text=st.text(), name=PLAIN, path=PLAIN)
def test_any_text_name_and_path_reads_back(text: str, name: str, path: str) -> None:
    constant = TextOp(text)
    record = RecordOp([constant.text], RecordType.of([(name, TextType())]))
    field = FieldOp(record.result, name, TextType())
    ops = [constant, record, field]
    for op in ops:
        op.location = FileLineColLoc(StringAttr(path), IntAttr(1), IntAttr(1))
    printed = module_text(ModuleOp(ops), locations=True)
    assert reprinted(printed) == printed
    read = next(
        op for op in Parser(make_context(), printed).parse_module().ops if isinstance(op, TextOp)
    )
    assert read.value.data == text


@pytest.mark.parametrize("locations", [True, False])
def test_a_while_loop_reads_back(locations: bool) -> None:
    stop = ConstantOp(IntegerAttr(0, i1))
    ops = [stop, ConditionOp(stop.result)]
    loop = WhileOp([], [], Region(Block(ops)), Region(Block([YieldOp()])))
    loop.location = LOCATION
    printed = module_text(ModuleOp([loop]), locations=locations)
    assert printed.count("a.loom") == locations
    read = Parser(make_context(), printed).parse_module()
    assert module_text(read, locations=locations) == printed
