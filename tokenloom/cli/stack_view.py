"""A drawing of one memory stack in text: its dies, which of them compute, and where units sit."""

from __future__ import annotations

from tokenloom.backends.pim.stack import PimStack
from tokenloom.cli.quantity import rate, size

WIDTH = 66
_PLACES = {
    "bank": "in the dies, at the banks",
    "bank-group": "in the dies, at the bank groups",
    "buffer": "in the base die, one for each pseudo channel",
}


def stack_drawing(stack: PimStack) -> list[str]:
    """Return the lines of the drawing, the top die first, for one of the machine's stacks."""
    one = stack.bandwidth_bytes_per_s / stack.stacks
    capacity = size(stack.capacity_bytes / stack.stacks)
    lines = [f"One of {_count(stack.stacks, 'stack')}: {capacity}, {_count(stack.dies, 'die')}"]
    lines.append(f"┌{'─' * WIDTH}┐")
    for sid in reversed(range(stack.sids)):
        lines += [_boxed(_sid_text(stack, sid)), f"├{'─' * WIDTH}┤"]
    lines += [_boxed(text) for text in _base_die(stack)]
    lines.append(f"└{'─' * 8}┬{'─' * (WIDTH - 9)}┘")
    lines.append(
        f"         │ {stack.channels} channels x {stack.pseudo_channels} pseudo channels,"
        f" {rate(one, 'B/s')} to the processor"
    )
    return [*lines, "", *_bank_group(stack)]


def _sid_text(stack: PimStack, sid: int) -> str:
    dies = stack.dies // stack.sids
    first, last = sid * dies + 1, (sid + 1) * dies
    computes = sid < stack.pim_sids
    sids = stack.pim_sids if computes else stack.sids - stack.pim_sids
    held = (stack.pim_bytes if computes else stack.dense_bytes) / sids / stack.stacks
    rows = stack.pim_rows if computes else stack.rows
    kind = "computes" if computes else "dense"
    named = f"dies {first}-{last}" if last > first else f"die {first}"
    return f"SID {sid}  {named:<11} {kind:<9} {size(held):>9}   {rows:,} rows a bank"


def _base_die(stack: PimStack) -> list[str]:
    if not stack.computes:
        return ["base die   interface to the processor"]
    lines = [f"base die   controller, softmax, {size(stack.base_die_bytes)} of memory"]
    if stack.level == "buffer":
        lines.append(f"           {_count(stack.num_units // stack.stacks, 'unit')}")
    return lines


def _bank_group(stack: PimStack) -> list[str]:
    """Return one bank group of a computing SID, with the units that belong to it."""
    shape = f"{stack.bank_groups} bank groups of {stack.banks} banks"
    held = f"of {stack.columns} columns x {stack.column_bytes} B a row"
    where = f"A pseudo channel has in each SID {shape}, {held}."
    if not stack.computes:
        return [where, "No SID computes."]
    units = f"{_count(stack.num_units // stack.stacks, 'unit')} of {stack.unit.lanes} FP16 lanes"
    inside = rate(stack.internal_bandwidth_bytes_per_s / stack.stacks, "B/s")
    interval = f"{stack.mac_interval_cycles} cycles"
    cap = "power capped" if stack.power_cap else "no power cap"
    return [
        where,
        f"A bank group of a SID that computes (□ bank, u unit):  {_units(stack)}",
        f"{units}, {_PLACES[stack.level]}; a command every {interval} ({cap}): {inside} inside.",
    ]


def _units(stack: PimStack) -> str:
    if stack.level == "bank-group":
        return " ".join("□" * stack.banks) + " -u"
    if stack.level == "buffer":
        return " ".join("□" * stack.banks)
    per_unit = stack.unit.banks_per_unit
    return "  ".join(["□" * per_unit + "u"] * (stack.banks // per_unit))


def _boxed(text: str) -> str:
    return f"│ {text:<{WIDTH - 2}} │"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
