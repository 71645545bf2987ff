from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser

from tokenloom.compiler.context import CompileContext
from tokenloom.compiler.frontend.build import build
from tokenloom.compiler.frontend.check import check_file
from tokenloom.compiler.transforms.inline_workflows import InlineWorkflows
from tokenloom.compiler.transforms.segment_prompts import SegmentPrompts
from tokenloom.ir.dialects import make_context
from tokenloom.ir.printing import module_text
from tokenloom.ir.verify import verify_locations, verify_module


def text_of(module: ModuleOp) -> str:
    return module_text(module, locations=True)


def require_valid(module: ModuleOp) -> None:
    verify_module(module)
    verify_locations(module)
    text = text_of(module)
    assert text_of(Parser(make_context(), text).parse_module()) == text


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs") / "main.loom"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_random_programs_build_into_valid_ir_that_round_trips(
    script: Path, programs: st.SearchStrategy[str], data: st.DataObject
) -> None:
    script.write_text(data.draw(programs), encoding="utf-8")
    module = build(check_file(script))
    require_valid(module)
    context = CompileContext(base_dir=script.parent)
    for one in (InlineWorkflows(), SegmentPrompts()):
        one.apply(context, module)
        require_valid(module)
        before = text_of(module)
        one.apply(context, module)
        assert text_of(module) == before, f"{one.name} is not idempotent"
