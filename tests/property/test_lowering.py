"""Random programs: every phase prints and reads back as itself, and passes are idempotent."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser

from tokenloom.compiler.context import CompileContext
from tokenloom.compiler.frontend.build import build
from tokenloom.compiler.frontend.check import check_file
from tokenloom.compiler.options import CompileOptions
from tokenloom.compiler.pipeline import PIPELINE, XDSL_PASSES, lower, make_pass
from tokenloom.ir.printing import print_module
from tokenloom.ir.verify import PHASES, Phase, verify_module

HISTORIES = ("keep", "last(1)", "none")
HEAD = """
model m = "tiny"
tool look(query: text) -> text {{ impl = "tools:look" }}
agent A(name: text) {{
    model   = m
    system  = \"\"\"You are {{name}}, ünd patient, and you say little.\"\"\"
    history = {history}
    reuse   = {reuse}
}}
workflow w(topic: text, n: int(1..4) = 2, xs: [text] = ["a", "b"]) -> text {{
    let a = A("Ann")
    let b = A("Bo")
    var x = topic
"""
PROMPTS = st.sampled_from(["{x}", "Say {topic}", "1 {x} 2 {topic} 3", "plain"])


@st.composite
def statements(draw: st.DrawFn, depth: int = 2) -> str:
    ask = (
        f'{draw(st.sampled_from("ab"))}.ask("""{draw(PROMPTS)}""", max = {draw(st.integers(1, 9))})'
    )
    kinds = ["ask", "tool", "map", "gather", *(["if", "repeat", "until"] if depth else [])]
    kind = draw(st.sampled_from(kinds))
    simple = {
        "ask": f"x = {ask}",
        "tool": "x = look(x)",
        "map": 'x = join(map y in xs { A(y).ask("""{y}""", max = 4) }, "-")',
        "gather": 'x = join(gather d in [a, b] for n { d.ask("""{others}""", max = 4) }, "")',
    }
    if kind in simple:
        return simple[kind]
    inner = draw(statements(depth - 1))
    if kind == "if":
        return f'if x == "yes" {{\n{inner}\n}} else {{\n{draw(statements(depth - 1))}\n}}'
    if kind == "repeat":
        return f"repeat n {{\n{inner}\n}}"
    return f'repeat max 3 {{\n{inner}\nuntil x == "done"\n}}'


@st.composite
def programs(draw: st.DrawFn) -> str:
    body = "\n".join(draw(st.lists(statements(), min_size=1, max_size=4)))
    head = HEAD.format(
        history=draw(st.sampled_from(HISTORIES)), reuse=draw(st.sampled_from(["exact", "linked"]))
    )
    return f"{head}{body}\n    return x\n}}\n"


def module_of(source: str) -> ModuleOp:
    return build(check_file(Path("program.loom"), source))


def text_of(module: ModuleOp) -> str:
    stream = StringIO()
    print_module(module, stream, locations=True)
    return stream.getvalue()


@settings(max_examples=15, deadline=None)
@given(source=programs(), phase=st.sampled_from(PHASES), device=st.sampled_from(["host", "pim"]))
def test_every_phase_reads_back_as_itself(source: str, phase: Phase, device: str) -> None:
    options = CompileOptions(device="pim" if device == "pim" else "host", verify=True)
    text = text_of(lower(module_of(source), options, to=phase).module)
    again = Parser(CompileContext(), text).parse_module()
    verify_module(again)
    assert text_of(again) == text


@settings(max_examples=15, deadline=None)
@given(source=programs())
def test_a_pass_run_twice_changes_nothing_more(source: str) -> None:
    context, options, module = CompileContext(), CompileOptions(), module_of(source)
    for phase in PHASES:
        for name in PIPELINE[phase]:
            make_pass(name, options).apply(context, module)
            if name in XDSL_PASSES:  # cse also drops what its first run made dead
                continue
            once, decisions = text_of(module), dict(context.plan.decisions)
            make_pass(name, options).apply(context, module)
            assert text_of(module) == once, name
            assert context.plan.decisions == decisions, name
