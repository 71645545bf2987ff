from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.backends.device import DeviceError
from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.operations.schedule import (
    AttentionSchedule,
    candidates,
    check_schedule,
    default_schedule,
    unit_needs,
)
from tokenloom.backends.pim.stack import PimStack


def attacc() -> PimStack:
    pim = load_machine("attacc-hbm3").pim
    assert pim is not None
    return pim


@given(st.integers(16, 160), st.integers(1, 12), st.integers(1, 20_000))
def test_candidates_fit_the_units_and_hold_what_the_device_runs(
    head_dim: int, heads_per_kv: int, length: int
) -> None:
    stack = attacc()
    found = list(candidates(stack, head_dim, heads_per_kv, length))
    assert len(set(found)) == len(found) > 0
    for schedule in found:
        check_schedule(stack, head_dim, heads_per_kv, schedule)
        needs = unit_needs(stack, head_dim, schedule)
        assert needs.registers <= stack.unit.registers
        assert needs.entries <= stack.unit.operand_entries
        assert heads_per_kv % schedule.heads_together == 0
    assert default_schedule(stack, head_dim, heads_per_kv) in found


def test_candidates_hold_the_order_of_attacc() -> None:
    found = list(candidates(attacc(), 128, 1, 4096))
    assert AttentionSchedule("bank", True, 16, 1) in found
    assert max(schedule.phase_segments for schedule in found) == 16


def test_registers_and_entries_are_counted() -> None:
    needs = unit_needs(attacc(), 128, AttentionSchedule(phase_segments=4, heads_together=2))
    assert (needs.score_registers, needs.context_registers, needs.registers) == (2, 4, 8)
    assert (needs.query_entries, needs.weight_entries, needs.entries) == (4, 8, 12)


@pytest.mark.parametrize(
    ("change", "schedule", "message"),
    [
        ({"unit.banks_per_unit": 2}, AttentionSchedule(), "a unit in every bank, one serves 2"),
        ({}, AttentionSchedule(level="moon"), "units at level moon"),
        ({}, AttentionSchedule(heads_together=5), "heads_together 5 to divide the 4"),
        ({}, AttentionSchedule(phase_segments=200), "202 operand entries, a unit has 64"),
        ({"pim_sids": 0}, AttentionSchedule(), "without computing SIDs runs no attention"),
    ],
)
def test_what_a_stack_cannot_run_is_named(
    change: dict[str, int], schedule: AttentionSchedule, message: str
) -> None:
    stack = attacc()
    for name, value in change.items():
        *inner, field = name.split(".")
        owner = replace(stack.unit, **{field: value}) if inner else value
        stack = replace(stack, **{inner[0] if inner else field: owner})
    with pytest.raises(DeviceError, match=message):
        check_schedule(stack, 128, 4, schedule)
