"""Locations of IR as text."""

from __future__ import annotations

from xdsl.dialects.builtin import FileLineColLoc, LocationAttr


def place_of(location: LocationAttr) -> str:
    """Return a location as `file:line:column`, or nothing where it is unknown."""
    if not isinstance(location, FileLineColLoc):
        return ""
    return f"{location.filename.data}:{location.line.data}:{location.column.data}"
