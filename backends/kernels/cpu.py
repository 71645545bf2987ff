"""What the processor is: its instruction set and the cores this process may use.

It imports no compiler.
"""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Cpu:
    """A processor as far as compiled code depends on it."""

    machine: str
    model: str
    flags: frozenset[str]
    num_cores: int

    def key(self) -> str:
        """Return a short name of the instruction set and width, used in paths of the cache."""
        text = "\n".join([self.machine, self.model, " ".join(sorted(self.flags))])
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return f"{self.machine}-{digest}-{self.num_cores}"


@cache
def this_cpu() -> Cpu:
    """Return the processor this process runs on."""
    fields: dict[str, str] = {}
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags", fields.get("Features", "")).split()
    model = fields.get("model name", platform.processor())
    return Cpu(platform.machine(), model, frozenset(flags), len(os.sched_getaffinity(0)))
