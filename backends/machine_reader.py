"""Reads tables of a machine description: typed values, each number with the source it comes from.

A number is written `key = { value = 1, source = "..." }`, or bare in a table that has a `source` of
its own. It knows nothing of what the numbers describe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import cast


class MachineError(Exception):
    """A machine description cannot be used: which file, which key, why."""

    def __init__(self, file: str, key: str, reason: str):
        super().__init__(f"{file}: {key}: {reason}" if key else f"{file}: {reason}")
        self.file = file
        self.key = key
        self.reason = reason


class TableReader:
    """One TOML table. Reading marks a key as known; `finish` refuses what was never read.

    `sources` collects, for the whole file, where the number at each dotted key comes from.
    """

    def __init__(
        self, file: str, table: Mapping[str, object], key: str = "", source: str | None = None
    ):
        self.file = file
        self.key = key
        self.sources: dict[str, str] = {}
        self._table = table
        self._known: set[str] = {"source"}
        self._source = self.text("source") if "source" in table else source

    def __contains__(self, key: str) -> bool:
        return key in self._table

    def __iter__(self) -> Iterator[str]:
        return (key for key in self._table if key != "source")

    def error(self, key: str, reason: str) -> MachineError:
        """Return the error for `key` of this table."""
        return MachineError(self.file, self._path(key), reason)

    def text(self, key: str) -> str:
        """Return a non-empty string."""
        value = self._get(key)
        if not isinstance(value, str) or not value:
            raise self.error(key, f"must be a text, got {value!r}")
        return value

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self._get(key)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, got {value!r}")
        return value

    def number(self, key: str, *, zero: bool = False) -> float:
        """Return a positive number; with `zero` also 0."""
        value = self._number(key)
        if value < 0 or (value == 0 and not zero):
            raise self.error(key, f"must be {'>= 0' if zero else '> 0'}, got {value!r}")
        return value

    def count(self, key: str, *, zero: bool = False) -> int:
        """Return a positive whole number; with `zero` also 0."""
        value = self.number(key, zero=zero)
        if value != int(value):
            raise self.error(key, f"must be a whole number, got {value!r}")
        return int(value)

    def share(self, key: str) -> float:
        """Return a number above 0 and at most 1."""
        value = self.number(key)
        if value > 1:
            raise self.error(key, f"must be at most 1, got {value!r}")
        return value

    def table(self, key: str) -> TableReader:
        """Return the table `key`; its numbers inherit this table's source."""
        value = self._get(key)
        if not isinstance(value, dict):
            raise self.error(key, f"must be a table, got {value!r}")
        return self._child(cast("dict[str, object]", value), self._path(key))

    def tables(self, key: str) -> list[TableReader]:
        """Return the array of tables `key`, empty where there is none."""
        value: object = self._get(key) if key in self._table else ()
        if not isinstance(value, list | tuple):
            raise self.error(key, f"must be an array of tables, got {value!r}")
        rows = cast("Sequence[object]", value)
        if not all(isinstance(row, dict) for row in rows):
            raise self.error(key, "must hold tables only")
        return [
            self._child(cast("dict[str, object]", row), f"{self._path(key)}[{index}]")
            for index, row in enumerate(rows)
        ]

    def finish(self) -> None:
        """Raise if the table has a key that nothing has read."""
        for key in self._table:
            if key not in self._known:
                near = get_close_matches(key, self._known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise self.error(key, f"unknown key{hint}")

    def _child(self, table: dict[str, object], path: str) -> TableReader:
        child = TableReader(self.file, table, path, self._source)
        child.sources = self.sources
        return child

    def _path(self, key: str) -> str:
        return f"{self.key}.{key}" if self.key else key

    def _get(self, key: str) -> object:
        self._known.add(key)
        if key not in self._table:
            raise self.error(key, "missing")
        return self._table[key]

    def _number(self, key: str) -> float:
        value, source = self._get(key), self._source
        if isinstance(value, dict):
            inner = self._child(cast("dict[str, object]", value), self._path(key))
            value, source = inner._get("value"), inner._source
            inner.finish()
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, f"must be a number, got {value!r}")
        if source is None:
            raise self.error(key, 'has no source; write { value = ..., source = "..." }')
        self.sources[self._path(key)] = source
        return value
