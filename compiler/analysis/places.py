"""Locations of IR as text."""

from __future__ import annotations

from xdsl.dialects.builtin import LocationAttr

from tokenloom.compiler.diagnostics import place_key


def place_of(location: LocationAttr) -> str:
    """Return a location as `file:line:column`, or nothing where it is unknown."""
    path, line, column = place_key(location)
    return f"{path}:{line}:{column}" if path else ""
