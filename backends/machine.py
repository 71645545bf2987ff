"""Machine descriptions: what the hardware is, as data read from `machines/*.toml`.

A description holds processors, memory tiers, links and, where there is one, the geometry and timing
of a memory stack that computes. It knows nothing of models, and computes no times (that is `cost`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import cast

from tokenloom.backends.machine_reader import MachineError, TableReader, with_sources
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.system.description import System

__all__ = [
    "Link",
    "Machine",
    "MachineError",
    "PimStack",
    "Processor",
    "Tier",
    "list_machines",
    "load_machine",
]

FOLDER = Path(__file__).parent / "machines"
COMPUTE_DEVICES = ("cuda", "host")
"""Devices that run whole layers, the preferred one first."""


@dataclass(frozen=True)
class Processor:
    """A device that runs kernels: peaks, the shares of them that are reached, and launch time.

    `memory_tier` is the tier whose bandwidth its kernels read weights and KV with.
    """

    device: str
    memory_tier: str
    default_dtype: str
    peak_flop_per_s: Mapping[str, float]
    memory_bandwidth_bytes_per_s: float
    compute_efficiency: float
    memory_efficiency: float
    launch_ns: float

    @classmethod
    def read(cls, device: str, table: TableReader) -> Processor:
        """Read `[processors.<device>]`."""
        peaks = table.table("peak_flop_per_s")
        processor = cls(
            device,
            table.text("memory_tier"),
            table.text("default_dtype"),
            {dtype: peaks.number(dtype) for dtype in peaks},
            table.number("memory_bandwidth_bytes_per_s"),
            table.share("compute_efficiency"),
            table.share("memory_efficiency"),
            table.number("launch_ns", zero=True),
        )
        if processor.default_dtype not in processor.peak_flop_per_s:
            raise table.error("default_dtype", f"no peak_flop_per_s.{processor.default_dtype}")
        table.finish()
        return processor


@dataclass(frozen=True)
class Tier:
    """A level of memory that can hold KV pages."""

    name: str
    capacity_bytes: int
    bandwidth_bytes_per_s: float

    @classmethod
    def read(cls, name: str, table: TableReader) -> Tier:
        """Read `[tiers.<name>]`."""
        tier = cls(name, table.count("capacity_bytes"), table.number("bandwidth_bytes_per_s"))
        table.finish()
        return tier


@dataclass(frozen=True)
class Link:
    """A connection between two tiers, usable both ways; the bandwidth is that of one direction."""

    tiers: tuple[str, str]
    bandwidth_bytes_per_s: float
    latency_ns: float

    @classmethod
    def read(cls, table: TableReader) -> Link:
        """Read one `[[links]]`."""
        link = cls(
            (table.text("from"), table.text("to")),
            table.number("bandwidth_bytes_per_s"),
            table.number("latency_ns", zero=True),
        )
        table.finish()
        return link


@dataclass(frozen=True)
class Machine:
    """One described machine. `sources` says of each number where it comes from, by dotted key.

    Where it has PIM stacks, the tiers `pim` and `dense` are what their computing and their dense
    SIDs hold. Stacks of which all SIDs compute leave `dense` to the description: plain stacks
    beside them (dedicated PIM), the processor's own memory (AttAcc), or nothing. With a `system`
    the rest of the description is that of one of its devices.
    """

    name: str
    description: str
    processors: Mapping[str, Processor]
    tiers: Mapping[str, Tier]
    links: tuple[Link, ...]
    pim: PimStack | None
    system: System | None
    sources: Mapping[str, str]

    @property
    def compute_device(self) -> str:
        """The device that runs whole layers: `cuda` where there is one, else `host`."""
        return next(device for device in COMPUTE_DEVICES if device in self.processors)

    @property
    def attention_devices(self) -> tuple[str, ...]:
        """The devices that can run attention, the compute device first."""
        pim = self.pim is not None and self.pim.computes
        return (self.compute_device, "pim") if pim else (self.compute_device,)

    def has_device(self, device: str) -> bool:
        """Return whether the machine has `device`."""
        return device in self.processors or device in self.attention_devices


def list_machines() -> tuple[str, ...]:
    """Return the names of the machines that come with the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_machine(name_or_path: str | Path) -> Machine:
    """Return a machine of `list_machines()`, or the one described by a `.toml` file.

    MachineError: no such machine, unreadable TOML, a key that is missing, unknown or wrong.
    """
    path = _find(name_or_path)
    return _read_machine(TableReader(str(path), _tables(path, ())))


def _find(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if not text.endswith(".toml"):
        if text in list_machines():
            return FOLDER / f"{text}.toml"
        near = get_close_matches(text, list_machines(), n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else "a file must end in .toml;"
        raise MachineError(text, "", f"no such machine; {hint} known: {', '.join(list_machines())}")
    return Path(text)


def _tables(path: Path, above: tuple[Path, ...]) -> dict[str, object]:
    """Return the file's tables, merged over those of the files that it extends, in order."""
    if path.resolve() in above:
        raise MachineError(str(path), "extends", "a machine cannot extend itself")
    try:
        tables = with_sources(tomllib.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MachineError(str(path), "", f"cannot be read: {reason}") from None
    extends = tables.pop("extends", [])
    names = cast("list[object]", extends) if isinstance(extends, list) else [extends]
    merged: dict[str, object] = {}
    for name in names:
        if not isinstance(name, str):
            raise MachineError(str(path), "extends", f"must name machines, got {name!r}")
        merged = _merged(merged, _tables(_below(path, name), (*above, path.resolve())))
    return _merged(merged, tables)


def _below(path: Path, name: str) -> Path:
    """Return the file that `path` extends: one beside it, or one of those that come with us."""
    if not name.endswith(".toml"):
        return _find(name)
    beside = path.parent / name
    return FOLDER / name if not beside.exists() and (FOLDER / name).exists() else beside


def _merged(below: dict[str, object], above: dict[str, object]) -> dict[str, object]:
    """Return `below` with what `above` says in its place; only tables are merged into tables."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and "value" not in value:
            value = _merged(cast("dict[str, object]", old), cast("dict[str, object]", value))
        result[key] = value
    return result


def _read_machine(root: TableReader) -> Machine:
    pim = PimStack.read(root.table("pim")) if "pim" in root else None
    processors, tiers = root.table("processors"), root.table("tiers")
    machine = Machine(
        root.text("name"),
        root.text("description"),
        {name: Processor.read(name, processors.table(name)) for name in processors},
        {name: Tier.read(name, tiers.table(name)) for name in tiers},
        tuple(Link.read(link) for link in root.tables("links")),
        pim,
        System.read(root.table("system")) if "system" in root else None,
        root.sources,
    )
    root.finish()
    if pim is not None:
        machine = replace(machine, tiers={**_tiers_of(pim, root), **machine.tiers})
    _check(machine, root)
    return machine


def _tiers_of(pim: PimStack, root: TableReader) -> dict[str, Tier]:
    """Return the tiers that the stacks are; the description must not have them too."""
    sizes = {"pim": pim.pim_bytes, "dense": pim.dense_bytes}
    declared = root.table("tiers")
    for name, size_bytes in sizes.items():
        if name in declared and (size_bytes or name == "pim"):
            raise root.error(f"tiers.{name}", "follows from [pim]; leave it out")
    bandwidth = pim.bandwidth_bytes_per_s
    return {name: Tier(name, size, bandwidth) for name, size in sizes.items() if size}


def _check(machine: Machine, root: TableReader) -> None:
    """Raise where one part of the description names another that is not there."""
    if not any(device in machine.processors for device in COMPUTE_DEVICES):
        raise root.error("processors", f"needs one of {', '.join(COMPUTE_DEVICES)}")
    known = machine.tiers
    for name, processor in machine.processors.items():
        if processor.memory_tier not in known:
            reason = f"no tier {processor.memory_tier!r}; there are {', '.join(sorted(known))}"
            raise root.error(f"processors.{name}.memory_tier", reason)
    for index, link in enumerate(machine.links):
        for tier in link.tiers:
            if tier not in known:
                raise root.error(f"links[{index}]", f"no tier {tier!r}")
