from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from xdsl.dialects.builtin import DenseArrayBase, IntegerType, ModuleOp

from tokenloom.compiler.context import CompileContext
from tokenloom.compiler.diagnostics import CompileErrors
from tokenloom.compiler.transforms.segment_prompts import SegmentPrompts
from tokenloom.ir.declarations import ModelOp
from tokenloom.ir.flow import AskOp, SegmentOp
from tokenloom.ir.text import TextAttr
from tokenloom.models.registry import Model

Parse = Callable[[str], ModuleOp]


def segment(module: ModuleOp) -> ModuleOp:
    SegmentPrompts().apply(CompileContext(), module)
    return module


def values(tokens: DenseArrayBase[Any]) -> list[int]:
    return list(cast("DenseArrayBase[IntegerType]", tokens).get_values())


def errors_of(module: ModuleOp) -> list[str]:
    with pytest.raises(CompileErrors) as caught:
        segment(module)
    return [str(error) for error in caught.value.exceptions]


def test_the_tokens_of_a_turn_are_those_of_template_and_tokenizer(
    program: Parse, ask: Callable[..., str], tiny: Model
) -> None:
    module = segment(program(ask("a", "keep", "hk", 8)))
    (turn,) = [op for op in module.walk() if isinstance(op, AskOp)]
    ids: list[int] = []
    for part in turn.parts:
        assert isinstance(part.owner, SegmentOp)
        ids += values(part.owner.tokens)
    template, tokenizer = tiny.template, tiny.tokenizer
    assert ids == [
        *tokenizer.encode_markers(template.user_open),
        *tokenizer.encode("Who?"),
        *tokenizer.encode_markers(template.user_close + template.assistant_open),
    ]
    assert turn.close_tokens is not None
    closing = tokenizer.encode_markers(template.assistant_close)
    assert values(turn.close_tokens) == closing


def test_each_text_is_tokenized_once(
    program: Parse, ask: Callable[..., str], tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    encode = type(tiny.tokenizer).encode

    def counting(self: object, text: str) -> list[int]:
        seen.append(text)
        return encode(tiny.tokenizer, text)

    monkeypatch.setattr(type(tiny.tokenizer), "encode", counting)
    history = "hk"
    body = ""
    for index in range(20):
        body += ask(f"a{index}", "keep", history, 2)
        history = f"a{index}_h"
    segment(program(body))
    assert seen.count("Who?") == 1
    assert len(seen) < 12  # the rest are pieces of markers


def test_a_model_that_is_not_there_is_one_error_at_its_declaration(
    program: Parse, ask: Callable[..., str]
) -> None:
    module = program(ask("a", "keep", "hk", 8))
    declared = next(op for op in module.ops if isinstance(op, ModelOp))
    declared.source = TextAttr("tinny")
    (message,) = errors_of(module)
    assert message.startswith("a.loom:1:1: error: ")
    assert "tinny" in message


def test_a_budget_below_the_shortest_answer_is_an_error(
    program: Parse, ask: Callable[..., str]
) -> None:
    (message,) = errors_of(program(ask("a", "keep", "hk", 3, kind="bool")))
    assert message.startswith("a.loom:2:1: error: `max = 3` is too small")
    assert "takes 4 tokens" in message


def test_a_budget_beyond_the_context_is_an_error(program: Parse, ask: Callable[..., str]) -> None:
    (message,) = errors_of(program(ask("a", "keep", "hk", 2040)))
    assert "a.loom:2:1: error: this prompt can exceed the model's context" in message
    assert "`max = 2040`" in message
    assert "the context is 2048" in message


def test_budgets_of_earlier_turns_count(program: Parse, ask: Callable[..., str]) -> None:
    segment(program(ask("a", "keep", "hk", 900) + ask("b", "keep", "a_h", 900, line=3)))
    body = ask("a", "keep", "hk", 1000) + ask("b", "keep", "a_h", 1000, line=3)
    (message,) = errors_of(program(body))
    assert message.startswith("a.loom:3:1: ")


def test_turns_that_are_forgotten_do_not_count(program: Parse, ask: Callable[..., str]) -> None:
    segment(program(ask("a", "last", "hl", 1000) + ask("b", "last", "a_h", 1000)))


def loop(upper: str, body: str) -> str:
    return (
        f"%r = scf.for %i = %c0 to %{upper} step %c1 iter_args(%h = %hk) -> (!flow.history) : i64 "
        f"{{\n{body}  scf.yield %a_h : !flow.history\n}}"
    )


def test_a_loop_counts_as_often_as_it_must_run(program: Parse, ask: Callable[..., str]) -> None:
    (message,) = errors_of(program(loop("c9", ask("a", "keep", "h", 250))))
    assert "`max = 250`" in message
    segment(program(loop("c9", ask("a", "keep", "h", 150))))


def test_a_loop_over_an_input_counts_its_least_value(
    program: Parse, ask: Callable[..., str]
) -> None:
    segment(program(loop("rounds", ask("a", "keep", "h", 600))))
    assert errors_of(program(loop("rounds", ask("a", "keep", "h", 700))))


def test_of_two_branches_the_shorter_counts(program: Parse, ask: Callable[..., str]) -> None:
    branch = (
        "%t = arith.constant true\n"
        f"%x = scf.if %t -> (!flow.history) {{\n{ask('a', 'keep', 'hk', 1500)}"
        "scf.yield %a_h : !flow.history\n} else {\nscf.yield %hk : !flow.history\n}\n"
    )
    segment(program(branch + ask("b", "keep", "x", 1500)))
