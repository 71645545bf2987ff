"""What the commands of `tokenloom pim` have in common: a machine's stack, a level, a dtype."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tokenloom.backends.pim.stack import PimStack


class LevelName(StrEnum):
    """Where the units sit."""

    BANK = "bank"
    BANK_GROUP = "bank-group"
    BUFFER = "buffer"


class DtypeName(StrEnum):
    """What the banks hold."""

    FP16 = "fp16"
    INT8 = "int8"

    @property
    def element_bytes(self) -> int:
        """Bytes of one number."""
        return {"fp16": 2, "int8": 1}[self.value]


Machine = Annotated[str, typer.Option("--machine", help="A machine's name or TOML file.")]
Level = Annotated[
    LevelName | None, typer.Option(help="Where the units sit; else as the machine says.")
]
PowerCap = Annotated[
    bool | None, typer.Option("--power-cap/--no-power-cap", help="Else as the machine says.")
]
Dtype = Annotated[DtypeName, typer.Option(help="What the banks hold.")]
Heads = Annotated[int, typer.Option(min=1, help="Query heads.")]
KvHeads = Annotated[
    int | None, typer.Option(min=1, help="KV heads that the query heads share; else as many.")
]
HeadDim = Annotated[int, typer.Option(min=1, help="Elements of a head.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def stack_of(machine: str, level: LevelName | None, power_cap: bool | None) -> PimStack:
    """Return one of the machine's stacks, with the level and the cap that were asked for.

    BadParameter: the machine has no stack that computes, or no units at that level.
    """
    from tokenloom.backends.machine import load_machine
    from tokenloom.backends.pim.paths import one_stack

    stack = load_machine(machine).pim
    if stack is None or not stack.computes:
        raise typer.BadParameter(
            f"machine {machine} has no memory stack that computes; there are"
            f" {', '.join(_with_units())}"
        )
    try:
        return one_stack(stack).at(level and level.value, power_cap)
    except ValueError as error:
        raise typer.BadParameter(f"machine {machine}: {error}") from None


@contextmanager
def input_errors() -> Generator[None]:
    """Make errors of what was asked for, which a device would find while it runs, wrong input."""
    from tokenloom.backends.device import DeviceError

    try:
        yield
    except DeviceError as error:
        raise typer.BadParameter(str(error)) from None


def _with_units() -> list[str]:
    from tokenloom.backends.machine import list_machines, load_machine

    stacks = {name: load_machine(name).pim for name in list_machines()}
    return [name for name, stack in stacks.items() if stack and stack.computes]
