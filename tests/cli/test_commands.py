"""What the commands print and write when all is well."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer

from tokenloom import driver
from tokenloom.backends.machine import list_machines
from tokenloom.cli.console import error_console
from tokenloom.cli.plan_view import page, views
from tokenloom.cli.running import parse_pairs
from tokenloom.compiler.pipeline import PIPELINE
from tokenloom.models.registry import available

Run = Callable[..., tuple[int, str, str]]

ASK = """model m = "tiny"
agent A(n: int) { model = m }
workflow go(topic: text = "<b>") -> [text] {
    let a = A(1)
    let b = A(2)
    return gather x in [a, b] for 2 { x.ask(\"\"\"Say {topic}\"\"\", max = 4) }
}
"""


@pytest.fixture
def script() -> str:
    Path("x.loom").write_text(ASK)
    return "x.loom"


def test_pairs_are_split_at_the_first_equals_sign() -> None:
    assert parse_pairs(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}


@pytest.mark.parametrize("pairs", [["word"], ["=word"], ["word=1", "word=2"]])
def test_what_is_no_pair_is_refused(pairs: list[str]) -> None:
    with pytest.raises(typer.BadParameter, match="word"):
        parse_pairs(pairs)


def test_texts_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    text = "x.loom:100:9: error: [red]no[/red] :smile:"
    error_console().print(text)
    assert capsys.readouterr().err == f"{text}\n"


def test_check_says_that_there_are_no_errors(run: Run, script: str) -> None:
    assert run("check", script) == (0, "x.loom: no errors\n", "")


def test_check_prints_warnings_on_stderr(run: Run) -> None:
    Path("x.loom").write_text("workflow go() -> int {\n    let a = 1\n    return 2\n}\n")
    code, out, err = run("check", "x.loom")
    assert (code, out) == (0, "x.loom: no errors\n")
    assert err.startswith("x.loom:2:9: warning: ")


@pytest.mark.parametrize(
    ("phase", "op"),
    [("flow", "flow.ask"), ("kv", "kv.decode"), ("nn", "nn.function"), ("exec", "exec.model")],
)
def test_compile_stops_after_a_phase(run: Run, script: str, phase: str, op: str) -> None:
    code, out, _ = run("compile", script, "--to", phase, "-o", "-")
    assert code == 0
    assert out.startswith("builtin.module")
    assert op in out
    assert list(Path().iterdir()) == [Path("x.loom")]


def test_compile_writes_the_ir_of_a_phase_with_places(run: Run, script: str) -> None:
    code, out, err = run("compile", script, "--to", "kv", "-o", "deep/x.mlir")
    assert (code, out, err) == (0, "", "Wrote deep/x.mlir\n")
    assert '"x.loom":6:' in Path("deep/x.mlir").read_text()


def test_dump_ir_writes_a_numbered_file_a_pass(run: Run, script: str) -> None:
    assert run("compile", script, "-o", "b", "--dump-ir", "dump")[0] == 0
    passes = ["build", *(name for phase in PIPELINE.values() for name in phase)]
    found = sorted(path.name for path in Path("dump").iterdir())
    assert found == [f"{index:02}-{name}.mlir" for index, name in enumerate(passes)]


def test_a_bundle_runs_as_its_script_does(run: Run, script: str) -> None:
    code, _, err = run("compile", script, "-o", "b", "--mode", "exact")
    assert (code, err) == (0, "Wrote b\n")
    assert {path.name for path in Path("b").iterdir()} == {
        "manifest.json",
        "plan.json",
        "program.mlir",
    }
    code, of_bundle, _ = run("run", "b")
    assert code == 0
    assert run("run", script, "--mode", "exact")[1] == of_bundle
    assert len(json.loads(of_bundle)) == 2


def test_run_shows_answers_and_figures_on_stderr(run: Run, script: str) -> None:
    code, out, err = run("run", script, "--trace", "t.json")
    assert code == 0
    assert len(json.loads(out)) == 2
    assert err.count("x.loom:6:39 · ") == 4
    for figure in ("asks", "prompt tokens", "reused", "tokens/s", "measured", "predicted"):
        assert f"\n{figure} " in err
    assert json.loads(Path("t.json").read_text())["traceEvents"]


def test_run_json_has_the_asks_in_program_order(run: Run, script: str) -> None:
    code, out, err = run("run", script, "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert set(data) == {"result", "asks", "stats"}
    assert set(data["asks"][0]) == {
        "agent", "place", "prompt_ids", "output_ids", "text", "reused", "ms",
    }  # fmt: skip
    assert [ask["text"] for ask in data["asks"][2:]] == data["result"]


class _Tables(HTMLParser):
    """Counts tables and collects the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.captions: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "caption":
            self.captions.append(data)
        self.cells.append(data)


def test_the_page_of_a_plan_has_every_table_and_cell(script: str) -> None:
    plan = driver.compile(script).plan
    shown = _Tables(page(plan, "Plan of <x>"))
    wanted = views(plan)
    assert shown.captions == [view.title for view in wanted]
    assert "Plan of <x>" in shown.cells
    for view in wanted:
        for row in view.rows:
            assert len(row) == len(view.columns)
            assert [cell for cell in row if cell and cell not in shown.cells] == []


def test_plan_writes_its_page_and_prints_its_tables(run: Run, script: str) -> None:
    code, out, err = run("plan", script, "--html", "p.html")
    assert (code, out, err) == (0, "", "Wrote p.html\n")
    assert Path("p.html").read_text().startswith("<!doctype html>")
    code, out, _ = run("plan", script, "--machine", "h100")
    assert code == 0
    assert "Forecast on h100" in out


def test_plan_json_is_the_plan(run: Run, script: str) -> None:
    code, out, _ = run("plan", script, "--json", "--machine", "a100-80g", "--device", "pim")
    assert code == 0
    plan = json.loads(out)
    assert (plan["machine"], plan["device"], plan["mode"]) == ("a100-80g", "pim", "fast")


def test_models_are_listed_and_shown(run: Run) -> None:
    names = [info.name for info in available()]
    code, out, _ = run("models", "list", "--json")
    assert (code, [row["name"] for row in json.loads(out)]) == (0, names)
    table = run("models", "list")[1]
    assert [name for name in names if name not in table] == []
    code, out, _ = run("models", "show", "tiny", "--json")
    assert (code, json.loads(out)["hidden_size"]) == (0, 64)
    assert "KV bytes per token (float32)" in run("models", "show", "tiny")[1]


def test_machines_are_listed_and_shown(run: Run) -> None:
    names = list(list_machines())
    code, out, _ = run("machines", "list", "--json")
    assert (code, json.loads(out)) == (0, names)
    assert [name for name in names if name not in run("machines", "list")[1]] == []
    for name in names:
        code, out, _ = run("machines", "show", name, "--json")
        assert (code, json.loads(out)["name"]) == (0, name)
        assert name in run("machines", "show", name)[1]


def test_bench_lists_its_experiments(run: Run) -> None:
    code, out, _ = run("bench", "list")
    assert code == 0
    assert {"compile", "engine"} <= {line.split()[0] for line in out.splitlines()}


def test_version_and_help(run: Run) -> None:
    assert run("version")[1].startswith("tokenloom ")
    code, out, _ = run("run", "--help")
    assert code == 0
    assert "--device" in out
