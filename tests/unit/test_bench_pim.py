"""What the bench of PIM says is right; how fast it is, is for the bench to say."""

from __future__ import annotations

from tokenloom.bench import pim_cycles, pim_values
from tokenloom.bench.pim_speed import speeds


def test_compiled_kernels_compute_the_interpreted_values() -> None:
    assert [speed.differ for speed in speeds(repeats=1)] == [0, 0, 0, 0]


def test_one_head_a_channel_takes_the_reference_cycles() -> None:
    cycles, energy = pim_cycles.tables(quick=True)
    single = [row for row in cycles.rows if row[0].startswith("bank,") or row[0] == "bank"]
    errors = {error for row in single if row[1] == "16" for error in row[5::2]}
    assert errors == {"+0.00%"}
    assert {row[3] for row in energy.rows} == {"+0.00%"}


def test_no_value_differs_but_of_one_rounding() -> None:
    bits, attention = pim_values.tables(quick=True)
    *same, once = [int(row[3].replace(",", "")) for row in bits.rows]
    assert same == [0, 0, 0, 0]
    assert once > 32768
    assert max(float(error) for row in attention.rows for error in row[1:]) < 2**-7
