"""What happened when: a trace that Perfetto and Chrome show, and a table of metrics.

Format: Trace Event Format, complete (`X`), counter (`C`) and metadata (`M`) events, times in
microseconds. It knows nothing of why things happened.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenloom.models.cache import write_whole
from tokenloom.runtime.asks import AskRecord, AskStart
from tokenloom.runtime.engine import StepReport
from tokenloom.runtime.listener import Listener
from tokenloom.runtime.redaction import Redactor
from tokenloom.runtime.tools import ToolCall


class Trace(Listener):
    """Collects events of one run; `redactor` is the run's, so that no secret gets in.

    `engine_step` may be called from the engines' threads, all else from the event loop.
    """

    def __init__(self, redactor: Redactor | None = None) -> None:
        self.redactor = redactor or Redactor()
        self._start_ns = time.perf_counter_ns()
        self._asks: list[AskRecord] = []
        self._calls: list[ToolCall] = []
        self._steps: list[tuple[str, StepReport]] = []

    def ask_done(self, ask: AskStart, record: AskRecord) -> None:
        """Note a finished ask."""
        self._asks.append(record)

    def tool_finished(self, call: ToolCall) -> None:
        """Note a tool call."""
        self._calls.append(call)

    def engine_step(self, engine: str, report: StepReport) -> None:
        """Note a step of an engine."""
        self._steps.append((engine, report))

    def to_json(self) -> dict[str, Any]:
        """Return the trace as data."""
        agents = _Process(1, "agents", self._start_ns)
        for record in sorted(self._asks, key=lambda record: record.start_ns):
            times = record.start_ns, record.end_ns
            name = f"ask {record.place}"
            agents.span(record.label or record.agent, name, times, _ask_arguments(record))
        tools = _Process(2, "tools", self._start_ns)
        for call in sorted(self._calls, key=lambda call: call.start_ns):
            error = {} if call.error is None else {"error": self.redactor.scrub(call.error)}
            times = call.start_ns, call.end_ns
            tools.span(call.tool, call.tool, times, {"place": call.place, **error})
        engines = _Process(3, "engines", self._start_ns)
        for engine, step in sorted(self._steps, key=lambda pair: pair[1].start_ns):
            engines.span(engine, "step", (step.start_ns, step.end_ns), _step_arguments(step))
            for name, values in _counters(step).items():
                engines.counter(f"{engine} {name}", step.start_ns, values)
        events = [*agents.events, *tools.events, *engines.events]
        return {"traceEvents": events, "displayTimeUnit": "ms"}

    def metrics(self) -> dict[str, float]:
        """Return the table of metrics: counts, and times in milliseconds."""
        steps = [step for _, step in self._steps]
        return {
            "asks": len(self._asks),
            "tool_calls": len(self._calls),
            "tool_failures": sum(call.error is not None for call in self._calls),
            "tool_ms": sum(call.end_ns - call.start_ns for call in self._calls) / 1e6,
            "prompt_tokens": sum(record.num_prompt for record in self._asks),
            "output_tokens": sum(record.num_output for record in self._asks),
            "reused_prefix_tokens": sum(record.num_reused_prefix for record in self._asks),
            "reused_linked_tokens": sum(record.num_reused_linked for record in self._asks),
            "steps": len(steps),
            "step_ms": sum(step.end_ns - step.start_ns for step in steps) / 1e6,
            "device_ms": sum(step.run_ns for step in steps) / 1e6,
            "decode_rows": sum(step.num_decode_rows for step in steps),
            "prefill_rows": sum(step.num_prefill_rows for step in steps),
            "decode_pairs": sum(step.decode_pairs for step in steps),
            "prefill_pairs": sum(step.prefill_pairs for step in steps),
            "most_running": max((step.num_running for step in steps), default=0),
            "most_pages_used": max((step.pages_used for step in steps), default=0),
        }

    def write(self, path: Path) -> None:
        """Write the trace so that the file is there whole or not at all."""
        write_whole(path, json.dumps(self.to_json(), ensure_ascii=False))


def _ask_arguments(record: AskRecord) -> dict[str, Any]:
    return {
        "place": record.place,
        "prompt_tokens": record.num_prompt,
        "output_tokens": record.num_output,
        "reused_prefix": record.num_reused_prefix,
        "reused_linked": record.num_reused_linked,
        "text": record.text,
    }


def _step_arguments(step: StepReport) -> dict[str, Any]:
    return {
        "decode_rows": step.num_decode_rows,
        "prefill_rows": step.num_prefill_rows,
        "device_ms": step.run_ns / 1e6,
    }


def _counters(step: StepReport) -> dict[str, dict[str, int]]:
    return {
        "rows": {"decode": step.num_decode_rows, "prefill": step.num_prefill_rows},
        "requests": {"running": step.num_running, "waiting": step.num_waiting},
        "pages": {"used": step.pages_used, "cached": step.pages_cached},
    }


class _Process:
    """The events of one group of tracks. What overlaps on a track goes to a further lane of it."""

    def __init__(self, pid: int, name: str, start_ns: int):
        self._pid = pid
        self._start_ns = start_ns
        self._num_threads = 0
        self._lanes: dict[str, list[tuple[int, int]]] = {}
        self.events: list[dict[str, Any]] = [self._meta("process_name", 0, name)]

    def span(
        self, track: str, name: str, times_ns: tuple[int, int], arguments: Mapping[str, Any]
    ) -> None:
        """Add a span. Spans come in the order of their starts."""
        start_ns, end_ns = times_ns
        event = {
            "ph": "X",
            "pid": self._pid,
            "tid": self._thread(track, start_ns, end_ns),
            "name": name,
            "ts": (start_ns - self._start_ns) / 1e3,
            "dur": (end_ns - start_ns) / 1e3,
            "args": dict(arguments),
        }
        self.events.append(event)

    def counter(self, name: str, time_ns: int, values: Mapping[str, int]) -> None:
        """Add values of a counter."""
        event = {
            "ph": "C",
            "pid": self._pid,
            "tid": 0,
            "name": name,
            "ts": (time_ns - self._start_ns) / 1e3,
            "args": dict(values),
        }
        self.events.append(event)

    def _thread(self, track: str, start_ns: int, end_ns: int) -> int:
        lanes = self._lanes.setdefault(track, [])
        for index, (free_ns, thread) in enumerate(lanes):
            if free_ns <= start_ns:
                lanes[index] = end_ns, thread
                return thread
        self._num_threads += 1
        lanes.append((end_ns, self._num_threads))
        name = track if len(lanes) == 1 else f"{track} #{len(lanes)}"
        self.events.append(self._meta("thread_name", self._num_threads, name))
        return self._num_threads

    def _meta(self, kind: str, thread: int, name: str) -> dict[str, Any]:
        return {
            "ph": "M",
            "pid": self._pid,
            "tid": thread,
            "name": kind,
            "args": {"name": name},
        }
