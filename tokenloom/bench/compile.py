"""How long compiling takes, source to bundle: a debate, 100 agents, and up to 10,000 asks.

In process, imports not counted, kernels not built (they are cached by spec). The tiny model stands
in where only the compiler's own time matters, SmolLM2's text and shape in the debate.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tokenloom import driver
from tokenloom.bench.report import Report, ResultTable, measure
from tokenloom.compiler.options import CompileOptions

DEBATE = """model m = "{model}"
agent Debater(name: text, side: text) {{
    model = m
    reuse = linked
    system = \"\"\"You are {{name}} and argue {{side}}.\"\"\"
}}
agent Judge {{
    model = m
    system = \"\"\"You judge debates.\"\"\"
}}
workflow debate(topic: text, rounds: int(1..8) = 2) -> text {{
    let panel = [{members}]
    let views = gather d in panel for rounds {{
        d.ask(\"\"\"Topic: {{topic}}
{{others}}
Your turn, {{d.name}}.\"\"\", max = 32)
    }}
    return Judge.ask(\"\"\"{{topic}}
{{views}}
Who won?\"\"\", max = 32)
}}
"""
CHAIN_HEAD = """model m = "tiny"
agent Writer(name: text) {
    model = m
    system = \"\"\"You are {name}.\"\"\"
    history = none
}
workflow chain(topic: text) -> text {
    let writer = Writer("Ann")
    let a0 = writer.ask(\"\"\"Begin: {topic}\"\"\", max = 8)
"""


def debate(agents: int, model: str) -> str:
    """Return a debate of that many agents as source."""
    members = ", ".join(f'Debater("Agent {i}", "side {i}")' for i in range(agents))
    return DEBATE.format(members=members, model=model)


def chain(asks: int) -> str:
    """Return a workflow of that many asks, each reading the answer before it, as source."""
    lines = [
        f'    let a{i} = writer.ask("""Step {i}: {{a{i - 1}}}""", max = 8)\n'
        for i in range(1, asks)
    ]
    return CHAIN_HEAD + "".join(lines) + f"    return a{asks - 1}\n}}\n"


def run(quick: bool = False) -> Report:
    """Compile each script several times; the last rows show whether time grows linearly."""
    sizes = (100, 1000) if quick else (1000, 2000, 5000, 10000)
    repeats = 3 if quick else 5
    report = Report("compile")
    model = "tiny" if quick else "smollm2-135m-instruct"
    table = ResultTable(
        "Source to bundle, in process", ("script", "median ms", "spread", "ms per ask")
    )
    cases = [
        ("debate, 3 agents", debate(3, model), 4, repeats),
        ("debate, 100 agents", debate(100, model), 101, repeats),
        *((f"chain, {n:,} asks", chain(n), n, 1 if n > 2000 else 3) for n in sizes),
    ]
    for name, source, asks, times in cases:
        sample = measure(lambda source=source: compile_to_bundle(source), times)
        per_ask = sample.median_s * 1e3 / asks
        row = (name, f"{sample.median_s * 1e3:,.0f}", f"{sample.spread:.0%}", f"{per_ask:.3f}")
        table.rows.append(row)
    table.remarks.append("Bar: debate and 100 agents < 1,000 ms; ms per ask flat over the chains.")
    report.tables.append(table)
    return report


def compile_to_bundle(source: str) -> None:
    """Compile `source` from a file into a bundle, both in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.loom"
        script.write_text(source, encoding="utf-8")
        compiled = driver.compile(script, CompileOptions(base_dir=script.parent))
        driver.write_bundle(compiled, Path(folder) / "bundle")
