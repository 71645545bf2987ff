from __future__ import annotations

from dataclasses import replace

import pytest

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.energy import EnergyReport, attention_energy, stream_energy
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.attacc_stream import attention_stream
from tokenloom.backends.pim.streams.commands import Command, CommandStream, Op
from tokenloom.backends.pim.streams.rows import with_rows
from tokenloom.backends.pim.timing.event_model import time_stream

KV_BYTES = 2 * 2048 * 128 * 2


def stack_of(level: str = "bank", power_cap: bool = True) -> PimStack:
    pim = load_machine("attacc-hbm3").pim
    assert pim is not None
    return pim.at(level, power_cap)


def energy_of(stack: PimStack, stream: CommandStream) -> EnergyReport:
    return stream_energy(time_stream(with_rows(stream, stack), stack), stack)


def attention(stack: PimStack, length: int = 2048, heads: int = 1) -> EnergyReport:
    return energy_of(stack, attention_stream(stack, heads, length, 128))


def moving_pj_per_byte(stack: PimStack, level: str) -> float:
    """What a byte costs that units read: all but arithmetic, moves, refresh and standing by."""
    still = replace(stack.energy, buffer_pj_per_byte=0, mac_pj=0, softmax_pj_per_token=0)
    count = 32 * {"bank": 1, "bank-group": 4, "buffer": 32}[level]
    scopes: dict[str, list[dict[str, int]]] = {"bank": [{}]}
    scopes["bank-group"] = [{"bank": bank} for bank in range(4)]
    scopes["buffer"] = [
        {"sid": sid, "bank_group": group, "bank": bank}
        for sid in range(2)
        for group in range(4)
        for bank in range(4)
    ]
    commands = [
        Command(Op.MAC, channel=0, row=1, column=index // len(scopes[level]), **scope)
        for index, scope in zip(range(count), scopes[level] * 32, strict=False)
    ]
    stack = replace(stack, energy=still)
    found = energy_of(stack, CommandStream.of("read", "attacc-hbm3", commands))
    return found.dynamic / (32 * 64 * 32) * 1e12


@pytest.mark.parametrize(
    ("level", "pj_per_byte"), [("bank", 4.40), ("bank-group", 12.48), ("buffer", 26.32)]
)
def test_a_byte_that_units_read_costs_what_its_way_is_long(level: str, pj_per_byte: float) -> None:
    assert moving_pj_per_byte(stack_of(level), level) == pytest.approx(pj_per_byte)


def test_a_byte_to_the_processor_costs_most() -> None:
    stack = stack_of()
    commands = [Command(Op.RD, 0, 0, 0, 0, 0, row=1, column=column) for column in range(32)]
    found = energy_of(stack, CommandStream.of("read", "attacc-hbm3", commands))
    assert found.dynamic / (32 * 32) * 1e12 == pytest.approx(28.72)


def test_attention_costs_less_the_nearer_the_units_are() -> None:
    bank, group, buffer = (
        attention(stack_of(level)).dynamic for level in ("bank", "bank-group", "buffer")
    )
    assert bank < group < buffer < KV_BYTES * 28.72e-12


def test_reading_keys_and_values_costs_4_40_pj_a_byte() -> None:
    parts = attention(stack_of()).components
    assert parts["activate"] + parts["cell"] == pytest.approx(KV_BYTES * 4.40e-12)
    assert parts["mac"] == pytest.approx(KV_BYTES / 2 * 0.32e-12)
    moves = parts["path"] + parts["tsv"] + parts["interposer"]
    assert moves < 0.05 * parts["cell"] / 0.8  # the rest is moves, charged in full


def test_the_power_cap_changes_time_and_never_what_the_work_costs() -> None:
    capped, uncapped = (attention(stack_of(power_cap=cap)) for cap in (True, False))
    assert capped.dynamic == uncapped.dynamic
    assert capped.components["static"] > uncapped.components["static"]


def test_the_total_is_the_sum_of_the_components() -> None:
    found = attention(stack_of("buffer"), heads=3)
    assert found.total == pytest.approx(sum(found.components.values()), rel=1e-12)
    assert found.total == pytest.approx(
        found.dynamic + found.components["refresh"] + found.components["static"], rel=1e-12
    )
    assert found.dynamic == pytest.approx(3 * attention(stack_of("buffer")).dynamic)


@pytest.mark.parametrize("level", ["bank", "bank-group", "buffer"])
@pytest.mark.parametrize(("length", "heads", "per_kv"), [(2048, 1, 1), (700, 19, 1), (900, 8, 4)])
def test_the_closed_form_equals_the_stream(
    level: str, length: int, heads: int, per_kv: int
) -> None:
    stack = stack_of(level)
    stream = attention_stream(stack, heads, length, 96, heads_per_kv=per_kv)
    ours, closed = energy_of(stack, stream), attention_energy(stack, heads, length, 96, 2, per_kv)
    assert closed.dynamic == pytest.approx(ours.dynamic, rel=1e-9)
    assert closed.total == pytest.approx(ours.total, rel=0.02)


def test_what_a_refresh_opens_again_is_charged_to_it() -> None:
    stack = stack_of("buffer")
    found, still = attention(stack, 1024), replace(stack.timing, refi_cycles=1 << 30)
    without = attention(replace(stack, timing=still), 1024)
    assert found.components["activate"] == without.components["activate"]
    assert found.components["refresh"] > 0 == without.components["refresh"]
