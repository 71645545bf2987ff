"""What a compilation is asked for: which models' folder, machine, device and numeric mode.

Plain data; it knows nothing of IR.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenloom.kernel_spec import Mode

TargetDevice = Literal["host", "pim", "cuda"]
DEFAULT_MACHINES: dict[TargetDevice, str] = {
    "host": "this-host",
    "pim": "this-host-pim",
    "cuda": "h200",
}
PAGE_TOKENS = 16
"""Tokens in a KV page (DESIGN, section 1)."""


@dataclass(frozen=True)
class CompileOptions:
    """Options of one compilation.

    `base_dir` is where relative model paths start. `device` is where decode attention and the KV
    pages go; without `machine` it also picks the description that predicts times. `max_rows` is
    the most tokens of one engine step. `verify` checks the IR after each pass and not only at the
    end.
    """

    base_dir: Path = Path()
    device: TargetDevice = "host"
    machine: str | None = None
    mode: Mode = "fast"
    max_rows: int = 512
    verify: bool = False

    @property
    def machine_name(self) -> str:
        """The machine asked for, or the usual one of the device."""
        return self.machine or DEFAULT_MACHINES[self.device]
