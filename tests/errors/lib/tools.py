"""Functions that the programs of this folder name as tools."""

from __future__ import annotations

LIMIT = 3


def search(query: str, limit: int = LIMIT) -> list[str]:
    return [query] * limit
