"""A plan as tables for the terminal, and the same tables as one HTML page."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from tokenloom.compiler.plan import Alternative, Decision, PlacementRow, Plan

CSS = """body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; }
table { border-collapse: collapse; margin: 0 0 2rem; } caption { text-align: left;
font-weight: 600; padding: .4rem 0; } th, td { border-bottom: 1px solid #ccc; padding: .25rem .7rem;
text-align: left; vertical-align: top; } td.number { text-align: right; }"""


@dataclass(frozen=True)
class View:
    """A table before it is drawn."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def milliseconds(time_ns: float | None) -> str:
    """Return a time for people, empty where there is none."""
    return "" if time_ns is None else f"{time_ns / 1e6:,.2f} ms"


def views(plan: Plan) -> list[View]:
    """Return the plan's tables, the most asked for first."""
    found = [_workflows(plan), _asks(plan), _reuse(plan), _decisions(plan), *_placements(plan)]
    return [view for view in found if view.rows]


def _workflows(plan: Plan) -> View:
    columns = (
        "workflow",
        "asks",
        "prefill",
        "reused",
        "linked",
        "linkable",
        "decode",
        "critical path",
        "total",
    )
    rows = [
        (
            w.workflow,
            str(w.asks),
            str(w.prefill_tokens),
            str(w.reused_tokens),
            str(w.linked_tokens),
            str(w.linkable_tokens),
            str(w.decode_tokens),
            milliseconds(w.critical_path_ns),
            milliseconds(w.total_ns),
        )
        for w in plan.workflows
    ]
    return View(
        f"Forecast on {plan.machine} (device {plan.device}, mode {plan.mode})", columns, rows
    )


def _asks(plan: Plan) -> View:
    columns = ("ask", "agent", "times", "prefill", "reused", "decode", "priority", "slack")
    rows = [
        (
            a.place,
            ", ".join(a.agents),
            str(a.count),
            str(a.prefill_tokens),
            str(a.reused_tokens),
            str(a.decode_tokens),
            str(a.priority),
            "critical" if a.critical else milliseconds(a.slack_ns),
        )
        for a in plan.asks
    ]
    return View("Asks (tokens over all times)", columns, rows)


def _reuse(plan: Plan) -> View:
    columns = ("prompt", "agent", "times", "dense", "prefix", "linked", "chosen", "run", "master")
    rows = [
        (
            Path(row.place).name,
            ", ".join(row.agents),
            str(row.count),
            str(row.dense_tokens),
            str(row.prefix_tokens),
            "" if row.linked_tokens is None else str(row.linked_tokens),
            row.chosen,
            row.run,
            row.master,
        )
        for row in plan.reuse.values()
    ]
    return View("Reuse (tokens to prefill over all times, each way)", columns, rows)


def _decisions(plan: Plan) -> View:
    rows = [
        (d.id, d.subject, Path(d.place).name, d.chosen, _alternatives(d), d.reason)
        for d in plan.decisions.values()
    ]
    return View("Decisions", ("id", "subject", "place", "chosen", "alternatives", "why"), rows)


def _alternatives(decision: Decision) -> str:
    def one(alternative: Alternative) -> str:
        tokens, size = alternative.tokens, alternative.size_bytes
        parts = (
            _time(alternative),
            "" if tokens is None else f"{tokens:,} tokens",
            "" if size is None else f"{size:,} bytes",
        )
        return " ".join([alternative.name, *filter(None, parts)])

    return "; ".join(map(one, decision.alternatives))


def _time(alternative: Alternative) -> str:
    """Return the time of one layer on a stack in microseconds, of anything else in milliseconds."""
    if alternative.closed_ns is None:
        return milliseconds(alternative.time_ns)
    closed = f"{alternative.closed_ns / 1e3:,.2f} us in closed form"
    return (
        closed if alternative.time_ns is None else f"{alternative.time_ns / 1e3:,.2f} us ({closed})"
    )


def _placements(plan: Plan) -> list[View]:
    """Return for each function a table of batch by context: the quickest device and its time."""
    found: list[View] = []
    for key in dict.fromkeys((row.model, row.phase) for row in plan.placements):
        rows = [row for row in plan.placements if (row.model, row.phase) == key]
        contexts = sorted({row.context for row in rows})
        cells = {(row.batch, row.context): row for row in rows}
        lines = [
            (str(batch), *(_cell_of(cells[batch, context]) for context in contexts))
            for batch in sorted({row.batch for row in rows})
        ]
        title = f"{key[0]}: quickest device for a layer's {key[1]} attention, batch by context"
        found.append(View(title, ("batch", *map(str, contexts)), lines))
    return found


def _cell_of(row: PlacementRow) -> str:
    others = [f"{name} {t / 1e3:,.0f}" for name, t in row.time_ns.items() if name != row.best]
    best = f"{row.best} {row.time_ns[row.best] / 1e3:,.0f} us"
    return f"{best} ({', '.join(others)})" if others else best


def decision_lines(plan: Plan) -> Iterable[str]:
    """Yield the decisions as text, which reads better than a wide table."""
    for view_id, subject, place, chosen, alternatives, why in _decisions(plan).rows:
        yield f"{view_id}  {subject}  {place}"
        yield f"    {chosen}: {why}"
        yield f"    of {alternatives}"


def tables(plan: Plan) -> Iterable[Table]:
    """Yield the plan's tables for a terminal, all but the decisions."""
    for view in [_workflows(plan), _asks(plan), _reuse(plan), *_placements(plan)]:
        table = Table(title=view.title, title_justify="left")
        for column in view.columns:
            table.add_column(
                column, overflow="fold", no_wrap=column in ("ask", "prompt", "workflow")
            )
        for row in view.rows:
            table.add_row(*row)
        yield table


def page(plan: Plan, title: str) -> str:
    """Return one HTML page that needs nothing else."""
    parts = [
        "<!doctype html>",
        f'<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>',
        f"<style>{CSS}</style><h1>{html.escape(title)}</h1>",
    ]
    for view in views(plan):
        head = "".join(f"<th>{html.escape(column)}</th>" for column in view.columns)
        parts.append(f"<table><caption>{html.escape(view.title)}</caption><tr>{head}</tr>")
        parts += [f"<tr>{''.join(map(_cell, row))}</tr>" for row in view.rows]
        parts.append("</table>")
    parts += [f"<p>{html.escape(text)}</p>" for text in plan.assumptions]
    return "\n".join(parts) + "\n"


def _cell(text: str) -> str:
    kind = ' class="number"' if text[:1].isdigit() else ""
    return f"<td{kind}>{html.escape(text)}</td>"
