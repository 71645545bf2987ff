from __future__ import annotations

from collections.abc import Callable

import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser

from tokenloom.ir.dialects import make_context

SETTINGS = (
    "model = @m, reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, "
    "top_p = 1.0 : f64, stop = []"
)
HEADER = """
flow.model @m <"tiny"> loc("a.loom":1:1)
flow.agent @Keep {{
  %0 = flow.text <"Be fair.">
  flow.yield %0 : !flow.text
}} {{params = [], history = -1 : i64, {settings}}}
flow.agent @Last {{
  flow.yield
}} {{params = [], history = 2 : i64, {settings}}}
flow.workflow @main {{
^bb0(%topic: !flow.text, %rounds: i64):
  %c0 = arith.constant 0 : i64
  %c1 = arith.constant 1 : i64
  %c9 = arith.constant 9 : i64
  %keep = flow.spawn @Keep : !flow.agent<@Keep>
  %last = flow.spawn @Last : !flow.agent<@Last>
  %hk = flow.history %keep : !flow.agent<@Keep>
  %hl = flow.history %last : !flow.agent<@Last>
  %p = flow.text <"Who?">
  {body}
  flow.return %topic : !flow.text
}} {{inputs = #flow.string<"{inputs}">, result = #flow.string<"{{}}">}}
"""
INPUTS = (
    r"[{\22name\22: \22topic\22, \22type\22: {\22kind\22: \22text\22}}, "
    r"{\22name\22: \22rounds\22, \22type\22: {\22kind\22: \22int\22, \22min\22: 3}}]"
)


@pytest.fixture
def parse() -> Callable[[str], ModuleOp]:
    """Return a function that makes a module out of IR text."""

    def parse_text(text: str) -> ModuleOp:
        return Parser(make_context(), text).parse_module()

    return parse_text


@pytest.fixture
def program(parse: Callable[[str], ModuleOp]) -> Callable[[str], ModuleOp]:
    """Return a function that puts a body into a workflow with two agents and some constants."""

    def make(body: str) -> ModuleOp:
        return parse(HEADER.format(settings=SETTINGS, body=body, inputs=INPUTS))

    return make


@pytest.fixture
def ask() -> Callable[..., str]:
    """Return a function that writes an ask in IR."""

    def write(
        answer: str, agent: str, history: str, budget: int, *, line: int = 2, kind: str = "text"
    ) -> str:
        name = agent.capitalize()
        return (
            f"%{answer}, %{answer}_h = flow.ask %{agent} after %{history} (%p : !flow.text) "
            f'{{max_tokens = {budget} : i64, place = #flow.string<"a.loom:{line}:1">, '
            rf'answer_type = #flow.string<"{{\22kind\22: \22{kind}\22}}">}} '
            f': !flow.agent<@{name}> -> !flow.text loc("a.loom":{line}:1)\n'
        )

    return write
