"""Runs on the real engine and the tiny model, against the reference interpreter."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from xdsl.printer import Printer

from tokenloom import driver
from tokenloom.compiler.options import CompileOptions
from tokenloom.ir.verify import Phase
from tokenloom.models.registry import resolve
from tokenloom.runtime.asks import AskRecord, AskStart
from tokenloom.runtime.errors import AssertionFailed, BundleError, InputError, ToolError
from tokenloom.runtime.executor import Outcome
from tokenloom.runtime.inputs import parse_inputs
from tokenloom.runtime.listener import Listener
from tokenloom.runtime.program import decode, parse
from tokenloom.runtime.reference import interpret
from tokenloom.runtime.session import RunOptions, RunResult, choose_workflow, run_program
from tokenloom.runtime.steps import Program
from tokenloom.runtime.tools import ToolRunner
from tokenloom.runtime.trace import Trace

TOOLS = """
async def score(text): return len(text) % 10
def send(text): raise ValueError("no " + text)
"""
SCRIPT = '''
model m = "tiny"
type Verdict = { winner: "for" | "against", why: text(max = 10) }
tool score(text: text) -> int(0..10) { impl = "kit:score" }
tool send(text: secret text) -> text { impl = "kit:send" }
agent Debater(name: text) {
    model = m
    temperature = 0.8
    system = """You are {name}."""
}
agent Judge { model = m, system = """Judge.""" }
agent Forgetful { model = m, history = none }
agent Last { model = m, history = last(1), system = "L" }

workflow debate(topic: text, rounds: int(1..3) = 2) -> Verdict {
    let panel = [Debater("Ann"), Debater("Bo"), Debater("Cy")]
    let views = gather d in panel for rounds {
        d.ask("""Topic: {topic}
{others}
Turn {round}, {d.name}.""", max = 8)
    }
    return Judge.ask("""{views}
Who?""", as = Verdict, max = 60)
}

workflow mixed(xs: [text]) -> [text] {
    let notes = map x in xs { Debater(x).ask("Sum {x}", max = 5, stop = ["e"]) }
    let again = map n in notes { Debater(n).ask("More {n}", max = 5) }
    var best = ""
    for n in again {
        let a = Last.ask("Take {n}", max = 4)
        best = a + best
    }
    var i = 0
    repeat max 4 {
        let s = Forgetful.ask("S {best} {i}", max = 3, temperature = 1.5, top_p = 0.9)
        best = best + s
        i = i + 1
        until score(best) > 5
    }
    if len(best) > 4 { return [best, notes[0]] }
    return notes
}

workflow strict(topic: text) -> text {
    let a = Judge.ask("{topic}", max = 3)
    assert len(a) > 100 else "too short: {topic}"
    return a
}

workflow hidden(key: secret text) -> text {
    let said = Judge.ask("Use {key}", max = 3)
    return send(key)
}
'''
INPUTS: dict[str, dict[str, Any]] = {
    "debate": {"topic": "tea — 茶"},
    "mixed": {"xs": ["a", "bb", "ccc"]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script")
    (path / "kit.py").write_text(TOOLS)
    (path / "x.loom").write_text(SCRIPT, encoding="utf-8")
    return path


def compiled(folder: Path, to: Phase) -> Program:
    options = CompileOptions(base_dir=folder, mode="exact")
    module = driver.compile(folder / "x.loom", options, to=to).module
    text = StringIO()
    Printer(text, print_generic_format=True, print_debuginfo=True).print_op(module)
    return decode(parse(text.getvalue()))


@pytest.fixture(scope="module")
def program(folder: Path) -> Program:
    return compiled(folder, "exec")


@pytest.fixture(scope="module")
def flow(folder: Path) -> Program:
    return compiled(folder, "flow")


def reference(flow: Program, workflow: str, seed: int = 0) -> Outcome:
    async def work() -> Outcome:
        tools = ToolRunner(flow.tools)
        models = {name: resolve(source, Path()) for name, source in flow.models.items()}
        values = parse_inputs(flow.workflows[workflow].inputs, INPUTS[workflow])
        try:
            return await interpret(flow, workflow, values, models, tools, seed=seed)
        finally:
            tools.close()

    return asyncio.run(work())


def run(program: Program, workflow: str, **options: Any) -> RunResult:
    return run_program(program, INPUTS[workflow], RunOptions(workflow=workflow, **options))


def tokens(result: RunResult | Outcome) -> list[tuple[Any, ...]]:
    return [(a.agent, a.place, a.prompt_ids, a.output_ids, a.text) for a in result.asks]


@pytest.mark.parametrize("workflow", ["debate", "mixed"])
def test_tokens_are_those_of_the_reference_however_they_are_batched(
    program: Program, flow: Program, workflow: str
) -> None:
    meaning = reference(flow, workflow)
    for options in (
        {},
        {"max_batch": 1, "chunk_tokens": 7},
        {"prefix_reuse": False, "chunk_tokens": 64},
        {"num_pages": 40},
    ):
        result = run(program, workflow, **options)
        assert tokens(result) == tokens(meaning)
        assert result.value == meaning.value


def test_the_seed_changes_tokens_and_nothing_else_does(program: Program, flow: Program) -> None:
    first, again, other = (run(program, "debate", seed=seed) for seed in (0, 0, 1))
    assert tokens(first) == tokens(again)
    assert tokens(first) != tokens(other)
    assert tokens(other) == tokens(reference(flow, "debate", seed=1))


def test_a_conversation_reuses_its_own_tokens(program: Program) -> None:
    result = run(program, "debate")
    rounds = [ask for ask in result.asks if ask.agent == "Debater"]
    for first, second in zip(rounds[:3], rounds[3:], strict=True):
        assert second.num_reused_prefix >= first.num_prompt
    assert all(a.num_reused_prefix == 0 for a in run(program, "debate", prefix_reuse=False).asks)


def test_the_report_is_json(program: Program) -> None:
    report = json.loads(json.dumps(run(program, "debate").to_json()))
    assert report["result"]["winner"] in ("for", "against")
    assert list(report["asks"][0]) == [
        "agent", "place", "prompt_ids", "output_ids", "text", "reused", "ms"
    ]  # fmt: skip
    assert report["stats"]["asks"] == 7


def test_a_listener_hears_the_text_as_it_comes(program: Program) -> None:
    texts: dict[int, str] = {}

    class Hear(Listener):
        def ask_started(self, ask: AskStart) -> None:
            texts[ask.id] = ""

        def ask_text(self, ask: AskStart, text: str) -> None:
            texts[ask.id] += text

        def ask_done(self, ask: AskStart, record: AskRecord) -> None:
            assert texts[ask.id] == record.text

    trace = Trace()
    options = RunOptions(workflow="mixed")
    run_program(program, INPUTS["mixed"], options, Hear(), trace)
    assert len(texts) == trace.metrics()["asks"]
    assert trace.metrics()["steps"] > 0


def test_nothing_is_left_behind(program: Program) -> None:
    before = set(threading.enumerate())
    run(program, "debate")
    with pytest.raises(AssertionFailed, match=r"^x\.loom:\d+:5: too short: tea$"):
        run_program(program, {"topic": "tea"}, RunOptions(workflow="strict"))
    assert {t for t in threading.enumerate() if t not in before and t.name != "tools"} == set()


def test_a_secret_stays_out_of_errors_trace_and_report(program: Program) -> None:
    trace, heard = Trace(), [""]

    class Hear(Listener):
        def ask_text(self, ask: AskStart, text: str) -> None:
            heard.append(text)

        def ask_done(self, ask: AskStart, record: AskRecord) -> None:
            heard.append(repr(record))

    with pytest.raises(ToolError) as caught:
        run_program(program, {"key": "hush"}, RunOptions(workflow="hidden"), Hear(), trace)
    assert "raised ValueError: no •••" in str(caught.value)
    assert "hush" not in json.dumps(trace.to_json()) + "".join(heard)


def test_the_wrong_workflow_or_model_is_named(program: Program) -> None:
    with pytest.raises(InputError, match=r"which workflow\? There are debate, mixed"):
        choose_workflow(program, None)
    with pytest.raises(InputError, match="there is no workflow 'x'; there are debate"):
        choose_workflow(program, "x")
    changed = replace(program, digests={"m": "00"})
    with pytest.raises(BundleError, match="the weights of model 'tiny' are not those"):
        run(changed, "debate")


INTERRUPTED = """
import os, signal, sys, threading
from pathlib import Path
from tokenloom.runtime.program import decode, parse
from tokenloom.runtime.session import RunOptions, run_program

program = decode(parse(Path(sys.argv[1]).read_text()))
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    run_program(program, {}, RunOptions())
except KeyboardInterrupt:
    print([t.name for t in threading.enumerate() if not t.daemon])
"""


def test_ctrl_c_ends_tools_and_threads(tmp_path: Path) -> None:
    (tmp_path / "x.loom").write_text(
        'model m = "tiny"\nagent A { model = m }\n'
        'tool wait() -> text { command = ["sh", "-c", "echo $$ > pid; exec sleep 100"] }\n'
        'workflow w() -> text {\n    return A.ask("{wait()}", max = 3)\n}\n'
    )
    module = driver.compile(tmp_path / "x.loom", CompileOptions(mode="exact")).module
    text = StringIO()
    Printer(text, print_generic_format=True).print_op(module)
    (tmp_path / "x.mlir").write_text(text.getvalue())
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, tmp_path / "x.mlir"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout.strip(), done.stderr) == ("['MainThread']", "")
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()
