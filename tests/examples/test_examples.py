"""Every example on the real model: its type holds and its tokens are the reference's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokenloom.models.answers import parse_answer
from tokenloom.runtime.session import choose_workflow
from tokenloom.runtime.values import to_json

pytestmark = pytest.mark.model

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.loom"))
# Fewer files than by default, as the numpy reference takes its time.
INPUTS: dict[str, dict[str, Any]] = {"summarize": {"files": ["notes/tides.txt"]}}
SAMPLED = '''
model m = "smollm2-135m-instruct"
agent Teller(name: text) {
    model = m
    temperature = 0.9
    top_p = 0.95
    system = """You are {name}."""
}
workflow tell(rounds: int(1..3) = 2) -> text {
    let panel = [Teller("Ann"), Teller("Bo"), Teller("Cy")]
    let said = gather t in panel for rounds {
        t.ask("""{others}
Go on, {t.name}.""", max = 9)
    }
    return join(said, " ")
}
'''


@pytest.fixture(scope="module")
def batched(make_runner: Callable[..., Any]) -> Any:
    return make_runner()


@pytest.fixture(scope="module")
def one_by_one(make_runner: Callable[..., Any]) -> Any:
    return make_runner(max_batch=1, chunk_tokens=24, prefix_reuse=False)


@pytest.fixture(scope="module")
def on_pim(make_runner: Callable[..., Any]) -> Any:
    return make_runner("pim")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    script = tmp_path_factory.mktemp("sampled") / "sampled.loom"
    script.write_text(SAMPLED, encoding="utf-8")
    return script


def require_declared_type(run: Any) -> None:
    value, workflow = run.outcome.value, choose_workflow(run.program, None)
    text = value if isinstance(value, str) else to_json(value)
    assert parse_answer(workflow.result, text) == value
    assert all(ask.output_ids for ask in run.outcome.asks)


def test_there_are_five_examples() -> None:
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_tokens_are_those_of_the_reference(
    batched: Any, one_by_one: Any, meaning: Any, script: Path
) -> None:
    inputs = INPUTS.get(script.stem)
    run = batched(script, inputs)
    require_declared_type(run)
    assert run.tokens == meaning(script, inputs).tokens
    assert one_by_one(script, inputs).tokens == run.tokens


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs_on_pim(on_pim: Any, script: Path) -> None:
    require_declared_type(on_pim(script, INPUTS.get(script.stem)))


def test_sampled_tokens_are_those_of_the_reference(
    batched: Any, one_by_one: Any, meaning: Any, sampled: Path
) -> None:
    run = batched(sampled, seed=3)
    assert run.tokens == meaning(sampled, seed=3).tokens
    assert one_by_one(sampled, seed=3).tokens == run.tokens
    assert batched(sampled, seed=4).tokens != run.tokens


def test_the_same_seed_gives_the_same_tokens_on_pim(on_pim: Any, sampled: Path) -> None:
    first, again, other = (on_pim(sampled, seed=seed) for seed in (1, 1, 2))
    assert first.tokens == again.tokens
    assert first.tokens != other.tokens
