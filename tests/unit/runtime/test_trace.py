from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenloom.runtime.asks import AskRecord, AskStart
from tokenloom.runtime.engine import StepReport
from tokenloom.runtime.redaction import Redactor
from tokenloom.runtime.tools import ToolCall
from tokenloom.runtime.trace import Trace

START = AskStart(0, "A", "x.loom:1:1", "A Ann")


def record(start_ns: int, end_ns: int) -> AskRecord:
    return AskRecord("A", "x.loom:1:1", (1, 2), (3,), "hi", 1, 0, 2, 1, start_ns, end_ns, "A Ann")


def filled() -> Trace:
    redactor = Redactor()
    redactor.learn("hush", {"kind": "text", "secret": True})
    trace = Trace(redactor)
    for times in ((2000, 5000), (1000, 3000), (3000, 4000)):
        trace.ask_done(START, record(*times))
    trace.tool_finished(ToolCall(1, "search", "x.loom:2:2", 0, 900, "no hush here"))
    trace.engine_step("m", StepReport(0, 100, 900, 700, 3, 5, 60, 40, 2, 1, 0, 7, 1, 2))
    return trace


def spans(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [event for event in data["traceEvents"] if event["ph"] == "X"]


def test_the_file_is_a_trace_with_named_tracks(tmp_path: Path) -> None:
    filled().write(tmp_path / "new" / "trace.json")
    data = json.loads((tmp_path / "new" / "trace.json").read_text())
    names = [e["args"]["name"] for e in data["traceEvents"] if e["ph"] == "M"]
    assert names == ["agents", "A Ann", "A Ann #2", "tools", "search", "engines", "m"]
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["trace.json"]


def test_spans_of_one_track_never_overlap() -> None:
    found = spans(filled().to_json())
    for event in found:
        for other in found:
            if event is not other and (event["pid"], event["tid"]) == (other["pid"], other["tid"]):
                assert (
                    event["ts"] + event["dur"] <= other["ts"]
                    or other["ts"] + other["dur"] <= event["ts"]
                )


def test_times_are_microseconds_and_counters_are_there() -> None:
    data = filled().to_json()
    step = next(event for event in spans(data) if event["name"] == "step")
    assert abs(step["dur"] - 0.8) < 1e-9
    assert step["args"] == {"decode_rows": 3, "prefill_rows": 5, "device_ms": 0.0007}
    counters = {e["name"]: e["args"] for e in data["traceEvents"] if e["ph"] == "C"}
    assert counters["m rows"] == {"decode": 3, "prefill": 5}
    assert counters["m pages"] == {"used": 7, "cached": 2}


def test_secrets_stay_out() -> None:
    assert "hush" not in json.dumps(filled().to_json())


def test_metrics_count() -> None:
    metrics = filled().metrics()
    assert (metrics["asks"], metrics["tool_calls"], metrics["tool_failures"]) == (3, 1, 1)
    assert (metrics["prompt_tokens"], metrics["output_tokens"]) == (6, 3)
    assert metrics["reused_prefix_tokens"] == 3
    assert (metrics["steps"], metrics["most_running"]) == (1, 2)
