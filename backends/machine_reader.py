"""Reads tables of a machine description: typed values, each number with the source it comes from.

A number is written `key = { value = 1, source = "..." }`, or bare in a table that has a `source` of
its own or lies in one. It knows nothing of what the numbers describe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import cast

LARGEST = 1e30
"""No quantity of a machine is larger; products of a few of them stay finite."""


class MachineError(Exception):
    """A machine description cannot be used: which file, which key, why."""

    def __init__(self, file: str, key: str, reason: str):
        super().__init__(f"{file}: {key}: {reason}" if key else f"{file}: {reason}")
        self.file = file
        self.key = key
        self.reason = reason


def with_sources(table: Mapping[str, object], source: object = None) -> dict[str, object]:
    """Return the tables of one file, each number with its source written beside it.

    So a number of another file that takes the place of one of this file does not take its source.
    """
    source = table.get("source", source)
    return {key: _with_source(value, source) for key, value in table.items() if key != "source"}


def _with_source(value: object, source: object) -> object:
    if isinstance(value, list):
        return [_with_source(row, source) for row in cast("list[object]", value)]
    if isinstance(value, dict):
        table = _as_table(cast("object", value))
        return _number_with(table, source) if "value" in table else with_sources(table, source)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number_with({"value": value}, source)
    return value


def _number_with(number: dict[str, object], source: object) -> dict[str, object]:
    return number if source is None else {"source": source, **number}


def _as_table(value: object) -> dict[str, object]:
    """Return a table, empty where the value is none."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _shown(value: object) -> str:
    """Return a value as the file has it."""
    return repr(_as_table(value).get("value", value))


class TableReader:
    """One table of what `with_sources` returns. `finish` refuses keys that nothing has read.

    `sources` collects, for the whole file, where the number at each dotted key comes from.
    """

    def __init__(self, file: str, table: Mapping[str, object], key: str = ""):
        self.file = file
        self.key = key
        self.sources: dict[str, str] = {}
        self._table = table
        self._known: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def error(self, key: str, reason: str) -> MachineError:
        """Return the error for `key` of this table."""
        return MachineError(self.file, self._path(key), reason)

    def text(self, key: str) -> str:
        """Return a non-empty string."""
        value = self._get(key)
        if not isinstance(value, str) or not value:
            raise self.error(key, f"must be a text, got {_shown(value)}")
        return value

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self._get(key)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, got {_shown(value)}")
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
        """Return the table `key`."""
        value = self._get(key)
        if not isinstance(value, dict) or "value" in value:
            raise self.error(key, f"must be a table, got {_shown(self._table[key])}")
        return self._child(_as_table(self._table[key]), self._path(key))

    def tables(self, key: str) -> list[TableReader]:
        """Return the array of tables `key`, empty where there is none."""
        value: object = self._get(key) if key in self._table else ()
        if not isinstance(value, list | tuple):
            raise self.error(key, f"must be an array of tables, got {_shown(value)}")
        rows = cast("Sequence[object]", value)
        if not all(isinstance(row, dict) for row in rows):
            raise self.error(key, "must hold tables only")
        return [
            self._child(_as_table(row), f"{self._path(key)}[{index}]")
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
        child = TableReader(self.file, table, path)
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
        found = self._get(key)
        number = _as_table(found)
        if "value" not in number:
            raise self.error(key, f"must be a number, got {_shown(found)}")
        inner = self._child(number, self._path(key))
        value = inner._get("value")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, f"must be a number, got {value!r}")
        if not abs(value) <= LARGEST:
            raise self.error(key, f"must be a number up to {LARGEST:g}")
        if "source" not in inner:
            raise self.error(key, 'has no source; write { value = ..., source = "..." }')
        self.sources[self._path(key)] = inner.text("source")
        inner.finish()
        return value
