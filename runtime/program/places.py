"""The place in the source that an operation came from."""

from __future__ import annotations

from pathlib import PurePath
from typing import cast

from xdsl.dialects.builtin import ArrayAttr, CallSiteLoc, FileLineColLoc, FusedLoc, NameLoc
from xdsl.ir import Attribute, Operation


def place_of(op: Operation) -> str:
    """Return `file:line:column` as asks and calls have it, empty where it is not known."""
    return _place(op.location)


def _place(location: Attribute) -> str:
    match location:
        case FileLineColLoc():
            name = PurePath(location.filename.data).name
            return f"{name}:{location.line.data}:{location.column.data}"
        case CallSiteLoc():
            return _place(location.callee)
        case NameLoc():
            return _place(location.location)
        case FusedLoc():
            parts = cast("ArrayAttr[Attribute]", location.locations)
            return next((place for place in map(_place, parts) if place), "")
        case _:
            return ""
