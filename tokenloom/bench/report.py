"""What an experiment hands back: tables with the machine and versions they were measured on."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """Repeated measurements of one thing, in seconds."""

    times_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """The median time."""
        return statistics.median(self.times_s)

    @property
    def spread(self) -> float:
        """(slowest - fastest) / median."""
        return (max(self.times_s) - min(self.times_s)) / self.median_s


def measure(work: Callable[[], object], repeats: int) -> Sample:
    """Time `work` `repeats` times after one run that is not counted."""
    work()
    times: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return Sample(tuple(times))


@dataclass
class ResultTable:
    """One table: a title, columns, rows of text, and a remark for each claim it bears on."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    remarks: list[str] = field(default_factory=list[str])


@dataclass
class Report:
    """All tables of an experiment and where they were measured."""

    name: str
    tables: list[ResultTable] = field(default_factory=list[ResultTable])
    machine: dict[str, str] = field(default_factory=lambda: describe_machine())

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON data."""
        return asdict(self)


def describe_machine() -> dict[str, str]:
    """Return the processor, cores and the versions that matter."""
    packages = ("tokenloom", "apache-tvm", "xdsl", "torch", "numpy")
    return {
        "cpu": cpu_name(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def cpu_name() -> str:
    """Return what the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
