"""A machine as tables: every number of its description, with its unit, and what follows from them.

It walks the description, so that what a machine has is shown without being listed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import cast

from rich.table import Table

from tokenloom.backends.machine import Machine
from tokenloom.backends.pim.stack import PimStack
from tokenloom.cli.quantity import quantity, rate

_HIDDEN = ("name", "description", "sources")
_TITLES = {"processors": "processor", "tiers": "tier", "links": "link", "pim": "stack"}
_OWN_SECTION = ("processors", "pim")
"""Parts whose own parts get a section each; of the others all numbers stand in one."""
_BUILT = (("pim", "unit"), ("pim", "levels"))
"""Parts that say nothing of a stack in which no SID computes."""
_DERIVED = "follows from the numbers of [pim]"


@dataclass(frozen=True)
class Row:
    """One number: its key below the section's, its text with a unit, where it comes from."""

    key: str
    text: str
    source: str


@dataclass(frozen=True)
class Section:
    """Numbers that belong together."""

    title: str
    rows: tuple[Row, ...]


def sections(machine: Machine) -> list[Section]:
    """Return all that the machine has, in the order of its description."""
    result: list[Section] = []
    for name, part in _plain_dict(machine).items():
        if name in _HIDDEN or not part:
            continue
        for path, values in _groups(name, part):
            if path in _BUILT and not (machine.pim and machine.pim.computes):
                continue
            title = " ".join([_TITLES.get(name, name), *path[1:]])
            rows = [_row(machine, (*path, *key), value) for key, value in _leaves(values)]
            result.append(Section(title, tuple(_short(machine, row, path) for row in rows)))
    return result


def section_table(section: Section, *, sources: bool) -> Table:
    """Return a section as a table, with a column of sources where asked."""
    table = Table(section.title, "", *(["source"] if sources else []), title_justify="left")
    for row in section.rows:
        table.add_row(row.key, row.text, *([row.source] if sources else []))
    return table


def level_table(stack: PimStack) -> Table:
    """Return what the stack's units do at each level, of all stacks together."""
    table = Table("level", "units", "power cap", "interval", "bandwidth inside", "x outside")
    for level in stack.levels:
        for power_cap in (True, False):
            at = stack.at(level, power_cap)
            inside = at.internal_bandwidth_bytes_per_s
            used = (level, power_cap) == (stack.level, stack.power_cap)
            table.add_row(
                f"{level} (in use)" if used else level,
                f"{at.num_units:,}",
                "yes" if power_cap else "no",
                f"{at.mac_interval_cycles} cycles",
                rate(inside, "B/s"),
                f"{inside / stack.bandwidth_bytes_per_s:.2f}",
            )
    return table


def _groups(name: str, part: object) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield the parts of a machine that are sections: path and values."""
    if name not in _OWN_SECTION or not isinstance(part, Mapping):
        yield (name,), part
        return
    values = cast("Mapping[str, object]", part)
    own = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    if own:
        yield (name,), own
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield (name, key), cast("object", value)


def _leaves(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield every number and text in nested tables; a list's index is part of the path."""
    if isinstance(value, Mapping):
        for key, inner in cast("Mapping[str, object]", value).items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, tuple | list):
        for index, row in enumerate(cast("tuple[object, ...]", value)):
            yield from _leaves(row, (*path, f"[{index}]"))
    elif value is not None:
        yield path, value


def _row(machine: Machine, path: tuple[str, ...], value: object) -> Row:
    key = ".".join(path).replace(".[", "[")
    source = machine.sources.get(key, "")
    if not source and machine.pim and key.startswith(("tiers.pim", "tiers.dense")):
        source = _DERIVED if isinstance(value, int | float) else ""
    name = next((part for part in reversed(path) if "_" in part), path[-1])
    text = quantity(name, value)
    if machine.pim and key.startswith("pim.timing") and name.endswith("_cycles"):
        text += f"  {cast('float', value) * machine.pim.timing.cycle_ns:.4g} ns"
    return Row(key, text, source)


def _short(machine: Machine, row: Row, path: tuple[str, ...]) -> Row:
    """Return the row with its key below the section's; a link is named by its two ends."""
    key = row.key.removeprefix(".".join(path)).removeprefix(".")
    for index, link in enumerate(machine.links if path == ("links",) else ()):
        key = key.replace(f"[{index}]", " - ".join(link.tiers))
    return Row(key, row.text, row.source)


def _plain_dict(machine: Machine) -> dict[str, object]:
    """Return the machine's parts, without what their keys or titles say already."""
    parts = cast("dict[str, object]", asdict(machine))
    for link in cast("tuple[dict[str, object], ...]", parts["links"]):
        del link["tiers"]
    for name, hidden in (("tiers", "name"), ("processors", "device")):
        for part in cast("dict[str, dict[str, object]]", parts[name]).values():
            del part[hidden]
    return parts
