"""The order in which the workflows of a file call each other, found in the syntax alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from graphlib import CycleError, TopologicalSorter
from typing import Any, cast

from tokenloom.compiler.frontend import syntax as s
from tokenloom.compiler.frontend.check_session import Session, help_note
from tokenloom.compiler.frontend.checked import WorkflowSymbol


def called_first(session: Session, workflows: list[WorkflowSymbol]) -> list[WorkflowSymbol]:
    """Return the workflows so that each stands after those that it calls.

    A workflow that calls itself, also through others, is reported: its plan would be infinite.
    """
    by_name = {workflow.name: workflow for workflow in workflows}
    calls = {workflow.name: _calls(workflow, by_name) for workflow in workflows}
    graph = {name: sorted(callees) for name, callees in calls.items()}
    reported: set[str] = set()
    while True:
        try:
            return [by_name[name] for name in TopologicalSorter(graph).static_order()]
        except CycleError as error:
            cycle: list[str] = error.args[1]
            caller, callee = cycle[1], cycle[0]
            if caller not in reported:
                chain = " -> ".join(reversed(cycle))
                message = f"workflow `{caller}` calls itself: {chain}"
                help_ = help_note("use `repeat`, `for` or `map`")
                session.error(message, calls[caller][callee], help_)
                reported.add(caller)
            graph[caller].remove(callee)


def _calls(workflow: WorkflowSymbol, known: dict[str, WorkflowSymbol]) -> dict[str, s.Call]:
    """Return the first call of each workflow of the file."""
    found: dict[str, s.Call] = {}
    for node in walk(workflow.decl.body):
        if isinstance(node, s.Call) and isinstance(node.callee, s.Name):
            name = node.callee.name
            if name in known:
                found.setdefault(name, node)
    return found


def walk(root: s.Node) -> Iterator[s.Node]:
    """Yield a node and all below it, in source order."""
    stack: list[s.Node] = [root]
    while stack:
        node = stack.pop()
        yield node
        below: list[s.Node] = []
        for name in _field_names(type(node)):
            value: Any = getattr(node, name)
            if isinstance(value, s.Node):
                below.append(value)
            elif isinstance(value, tuple):
                below += [
                    part for part in cast("tuple[object, ...]", value) if isinstance(part, s.Node)
                ]
        stack += reversed(below)


@cache
def _field_names(kind: type[s.Node]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.name != "span")
