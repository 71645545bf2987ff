"""The plan: every decision with its alternatives and predicted costs, and the tables made of them.

Passes add to it; `plan.json` is its published form (`plan.schema.json`). It knows nothing of IR.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

SCHEMA_VERSION = 1

DecisionKind = Literal["reuse", "priority", "placement", "schedule", "tier"]


@dataclass(frozen=True)
class Alternative:
    """One way to do it and its predicted cost, as far as that is known.

    `closed_ns` is what a closed form says where `time_ns` is found step by step.
    """

    name: str
    time_ns: float | None = None
    tokens: int | None = None
    size_bytes: int | None = None
    closed_ns: float | None = None


@dataclass(frozen=True)
class Decision:
    """What a pass chose for `subject`, at `place` (`file:line:column`), and why."""

    id: str
    kind: DecisionKind
    subject: str
    place: str
    chosen: str
    alternatives: tuple[Alternative, ...]
    reason: str


@dataclass(frozen=True)
class AskForecast:
    """What one ask of the source will do, over all the times it is reached.

    Tokens are sums over `count`; `linked_tokens` are those of runs that another ask computes.
    `linkable_tokens` were computed before for another agent at another place and are computed
    again all the same. `slack_ns` is how much later the ask
    could end without making the workflow longer.
    """

    workflow: str
    place: str
    agents: tuple[str, ...]
    count: int
    prefill_tokens: int
    reused_tokens: int
    linked_tokens: int
    decode_tokens: int
    linkable_tokens: int
    priority: int
    slack_ns: int
    critical: bool


@dataclass(frozen=True)
class WorkflowForecast:
    """What one run of a workflow will do.

    `critical_path_ns` is the longest chain of asks and tools that wait for each other, each ask
    alone on the machine; `total_ns` also counts that asks at one depth share it.
    """

    workflow: str
    asks: int
    prefill_tokens: int
    reused_tokens: int
    linked_tokens: int
    decode_tokens: int
    linkable_tokens: int
    critical_path_ns: float
    total_ns: float


@dataclass(frozen=True)
class ReuseRow:
    """What one prompt of the source takes, over all the times it is reached, each way.

    Tokens are those to prefill; None where a way is not open. `run` says which parts are read by
    all, and `master` behind whose head they are computed; both are empty where nothing is linked.
    """

    place: str
    agents: tuple[str, ...]
    count: int
    dense_tokens: int
    prefix_tokens: int
    linked_tokens: int | None
    chosen: str
    run: str
    master: str


@dataclass(frozen=True)
class PlacementRow:
    """Predicted time of one layer's attention on each device; `best` is the least."""

    model: str
    phase: str
    batch: int
    context: int
    time_ns: Mapping[str, float]
    best: str


@dataclass
class Plan:
    """All decisions and tables of one compilation, in the order in which they were made.

    `reuse` is by the id of the decision. `assumptions` says what was assumed where the program
    leaves a size open.
    """

    machine: str = ""
    device: str = ""
    mode: str = ""
    decisions: dict[str, Decision] = field(default_factory=dict[str, Decision])
    asks: list[AskForecast] = field(default_factory=list[AskForecast])
    workflows: list[WorkflowForecast] = field(default_factory=list[WorkflowForecast])
    reuse: dict[str, ReuseRow] = field(default_factory=dict[str, ReuseRow])
    placements: list[PlacementRow] = field(default_factory=list[PlacementRow])
    assumptions: list[str] = field(default_factory=list[str])

    def add(self, decision: Decision) -> None:
        """Record a decision; one with the same id is replaced."""
        self.decisions[decision.id] = decision

    def of_kind(self, kind: DecisionKind) -> list[Decision]:
        """Return the decisions of one kind, in order."""
        return [decision for decision in self.decisions.values() if decision.kind == kind]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON data that `schema()` describes."""
        return {
            "version": SCHEMA_VERSION,
            "machine": self.machine,
            "device": self.device,
            "mode": self.mode,
            "decisions": [asdict(decision) for decision in self.decisions.values()],
            "asks": [asdict(ask) for ask in self.asks],
            "workflows": [asdict(workflow) for workflow in self.workflows],
            "reuse": [asdict(row) for row in self.reuse.values()],
            "placements": [
                {**asdict(row), "time_ns": dict(row.time_ns)} for row in self.placements
            ],
            "assumptions": list(self.assumptions),
        }


@cache
def schema() -> Mapping[str, Any]:
    """Return the JSON schema of `plan.json`."""
    text = files("tokenloom.compiler").joinpath("plan.schema.json").read_text("utf-8")
    return json.loads(text)
