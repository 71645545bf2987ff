"""Which long values several contexts read at different places: runs without a sibling.

It knows nothing of whether linking is worth it, or of how it is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tokenloom.compiler.analysis.estimates import Estimate
from tokenloom.compiler.analysis.forecast_walk import Extension
from tokenloom.compiler.analysis.prefix_tree import PrefixNode
from tokenloom.ir.flow import SegmentOp
from tokenloom.ir.kv import ExtendOp

DOCUMENT_TOKENS = 128
"""Fewer tokens than this are read again: what is saved is not worth an approximation."""


@dataclass(frozen=True)
class Readings:
    """Where each value is put into a context, over all times of all extensions that may link."""

    places: Mapping[Estimate, Sequence[PrefixNode]]

    def documents(self, op: ExtendOp, times: Sequence[Extension]) -> list[int]:
        """Return the parts of an extension that are long and that another context reads too."""
        found: list[int] = []
        for index, part in enumerate(op.parts):
            ends_prompt = index + 1 == len(op.parts)
            if not ends_prompt and times and not isinstance(part.owner, SegmentOp):
                read = [one.parts[index] for one in times]
                if all(map(self._is_document, read)):
                    found.append(index)
        return found

    def is_first(self, value: Estimate, one: Extension) -> bool:
        """Say whether this extension is the first to read a value: it pays for the run."""
        return self.places[value][0] in one.end.path()

    def _is_document(self, value: Estimate) -> bool:
        places = self.places.get(value, ())
        return value.tokens >= DOCUMENT_TOKENS and len(places) > 1


def readings(extensions: Mapping[ExtendOp, Sequence[Extension]]) -> Readings:
    """Return who reads what; a value that a context has read already does not count again."""
    places: dict[Estimate, list[PrefixNode]] = {}
    for times in extensions.values():
        for one in times:
            for value, node in _placed(one):
                known = places.setdefault(value, [])
                if not any(before in known for before in node.path()):
                    known.append(node)
    return Readings(places)


def _placed(one: Extension) -> Iterator[tuple[Estimate, PrefixNode]]:
    nodes = list(one.end.path())[: len(one.parts)]
    return zip(one.parts, reversed(nodes), strict=True)
