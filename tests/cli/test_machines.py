"""`machines show`: tables, the drawing of a stack, and what is said of a wrong file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tokenloom.backends.machine import list_machines, load_machine
from tokenloom.backends.pim.stack import PimStack
from tokenloom.cli.machine_view import sections
from tokenloom.cli.quantity import duration, quantity, rate, size
from tokenloom.cli.stack_view import stack_drawing

Run = Callable[..., tuple[int, str, str]]

HET = """\
One of 6 stacks: 56 GiB, 16 dies
┌──────────────────────────────────────────────────────────────────┐
│ SID 3  dies 13-16  dense        16 GiB   16,384 rows a bank      │
├──────────────────────────────────────────────────────────────────┤
│ SID 2  dies 9-12   dense        16 GiB   16,384 rows a bank      │
├──────────────────────────────────────────────────────────────────┤
│ SID 1  dies 5-8    dense        16 GiB   16,384 rows a bank      │
├──────────────────────────────────────────────────────────────────┤
│ SID 0  dies 1-4    computes      8 GiB   8,192 rows a bank       │
├──────────────────────────────────────────────────────────────────┤
│ base die   controller, softmax, 16 MiB of memory                 │
└────────┬─────────────────────────────────────────────────────────┘
         │ 32 channels x 2 pseudo channels, 2.048 TB/s to the processor

A pseudo channel has in each SID 2 bank groups of 8 banks, of 32 columns x 32 B a row.
A bank group of a SID that computes (□ bank, u unit):  □u  □u  □u  □u  □u  □u  □u  □u
1,024 units of 16 FP16 lanes, in the dies, at the banks; \
a command every 6 cycles (power capped): 10.92 TB/s inside.
"""

WRONG = """\
extends = "attacc-hbm3"
name = "wrong"
description = "wrong"
[pim]
{line}
"""


def pim(name: str) -> PimStack:
    stack = load_machine(name).pim
    assert stack is not None
    return stack


def test_a_heterogeneous_stack_is_drawn(run: Run) -> None:
    code, out, err = run("machines", "show", "hbm4-het-1of4")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("hbm4-het-1of4: Hypothetical GPU")
    assert HET in out


@pytest.mark.parametrize(
    ("stack", "line"),
    [
        (pim("hbm2-pim"), "□□u  □□u"),
        (pim("attacc-hbm3").at("bank-group", False), "□ □ □ □ -u"),
        (pim("attacc-hbm3").at("bank-group", False), "256 units of 16 FP16 lanes, in the dies"),
        (pim("attacc-hbm3").at("bank-group", False), "every 4 cycles (no power cap): 2.663 TB/s"),
        (pim("attacc-hbm3").at("buffer"), "│            32 units "),
        (pim("attacc-hbm3").at("buffer"), "in the base die, one for each pseudo channel"),
        (pim("hbm4-dense"), "No SID computes."),
        (replace(pim("hbm2-pim"), dies=1, stacks=1), "One of 1 stack: 4 GiB, 1 die"),
        (replace(pim("hbm2-pim"), dies=1), "SID 0  die 1 "),
    ],
)
def test_where_units_sit_is_drawn(stack: PimStack, line: str) -> None:
    assert line in "\n".join(stack_drawing(stack))


@pytest.mark.parametrize("name", list_machines())
def test_every_number_is_shown_and_has_a_source(run: Run, name: str) -> None:
    machine = load_machine(name)
    code, out, err = run("machines", "show", name, "--sources")
    assert (code, err) == (0, "")
    rows = [(section, row) for section in sections(machine) for row in section.rows]
    assert all(row.source for _, row in rows if row.text[0].isdigit())
    shown = {row.source for _, row in rows}
    built = machine.pim is None or machine.pim.computes
    assert {s for key, s in machine.sources.items() if built or "pim." not in key} <= shown
    assert [row.key for _, row in rows if row.key not in out] == []


def test_sources_are_shown_when_asked_for(run: Run) -> None:
    text = "AttAcc simulator: five stacks a device"
    assert text in run("machines", "show", "attacc-hbm3", "--sources")[1]
    assert text not in run("machines", "show", "attacc-hbm3")[1]


def test_units_follow_from_the_names_of_keys(run: Run) -> None:
    out = run("machines", "show", "attacc-hbm3")[1]
    for key, text in [
        ("dense - pim.bandwidth_bytes_per_s", "300 GB/s"),
        ("peak_flop_per_s.float16", "312 TFLOP/s"),
        ("rp_cycles", "19 cycles  14.61 ns"),
        ("cell_pj_per_bit", "0.44 pJ/bit"),
        ("launch_ns", "1 us"),
        ("power_cap", "yes"),
    ]:
        assert [line for line in out.splitlines() if f" {key} " in line and f" {text} " in line]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (size(0), "0 B"),
        (size(1023), "1,023 B"),
        (size(1 << 10), "1 KiB"),
        (size(56 << 30), "56 GiB"),
        (size(3.84e12), "3.5 TiB"),
        (rate(1, "B/s"), "1 B/s"),
        (rate(2.048e12, "B/s"), "2.048 TB/s"),
        (duration(999), "999 ns"),
        (duration(6060), "6.06 us"),
        (duration(5e9), "5 s"),
        (quantity("mac_pj", 0.32), "0.32 pJ"),
        (quantity("power_cap", False), "no"),
        (quantity("level", "bank"), "bank"),
        (quantity("rows", 16384), "16,384"),
    ],
)
def test_quantities(text: str, expected: str) -> None:
    assert text == expected


def test_the_levels_of_a_stack_are_compared(run: Run) -> None:
    lines = run("machines", "show", "attacc-hbm3")[1].splitlines()
    assert [line for line in lines if "bank (in use)" in line and "35.51 TB/s" in line]
    assert [line for line in lines if " buffer " in line and " 160 " in line]
    assert "bank (in use)" not in run("machines", "show", "hbm4-dense")[1]


def test_json_has_the_whole_description(run: Run) -> None:
    code, out, _ = run("machines", "show", "hbm4-het-2of4", "--json")
    data = json.loads(out)
    assert code == 0
    assert (data["pim"]["pim_sids"], data["pim"]["timing"]["rcd_read_cycles"]) == (2, 39)
    assert data["sources"]["pim.pim_sids"] == "heterogeneous stacks: two of four SIDs"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "pim_sids = { value = 5, source = 'x' }",
            "pim.pim_sids: 5 of 2 sids cannot compute",
        ),
        (
            "rows = 100",
            'pim.rows: has no source; write { value = ..., source = "..." }',
        ),
        (
            "timing = { value = 3, source = 'x' }",
            "pim.timing: must be a table, got 3",
        ),
        (
            "unit = { lane = { value = 3, source = 'x' } }",
            "pim.unit.lane: unknown key; did you mean lanes?",
        ),
        ("level = 'row'", "pim.level: no [pim.levels.row]"),
    ],
)
def test_a_wrong_file_gets_file_key_and_reason(run: Run, line: str, reason: str) -> None:
    Path("wrong.toml").write_text(WRONG.format(line=line))
    assert run("machines", "show", "wrong.toml") == (2, "", f"error: wrong.toml: {reason}\n")


def test_an_unknown_machine_gets_the_nearest_name(run: Run) -> None:
    code, out, err = run("machines", "show", "hbm4-het-1of3")
    assert (code, out) == (2, "")
    assert err.startswith("error: hbm4-het-1of3: no such machine; did you mean hbm4-het-1of4")
