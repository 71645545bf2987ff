from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tokenloom.backends.machine import MachineError, list_machines, load_machine
from tokenloom.backends.pim.stack import PimStack

SMALL = """
name = "small"
description = "a test machine"
[processors.host]
memory_tier = "host"
default_dtype = "float32"
source = "made up"
memory_bandwidth_bytes_per_s = 1e10
compute_efficiency = 1
memory_efficiency = 1
launch_ns = 0
peak_flop_per_s = { float32 = 1e9 }
[tiers.host]
capacity_bytes = { value = 1e9, source = "made up" }
bandwidth_bytes_per_s = { value = 1e10, source = "made up" }
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "small.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", list_machines())
def test_every_machine_loads_and_each_number_has_a_source(name: str) -> None:
    machine = load_machine(name)
    assert machine.name == name
    assert machine.compute_device in machine.processors
    assert all(machine.sources.values())
    assert len(machine.sources) >= 12


def test_the_machines_of_this_version_are_there() -> None:
    expected = {"this-host", "this-host-pim", "a100-80g", "h100", "h200", "attacc-hbm3", "hbm2-pim"}
    expected |= {f"hbm4-{kind}" for kind in ("dense", "uniform", "dedicated", "het-1of4")}
    assert expected <= set(list_machines())


def test_a_file_may_extend_others_and_replace_numbers() -> None:
    base, machine = load_machine("a100-80g"), load_machine("attacc-hbm3")
    assert machine.processors["cuda"].peak_flop_per_s == base.processors["cuda"].peak_flop_per_s
    assert machine.processors["cuda"].memory_bandwidth_bytes_per_s == 3.352e12
    assert "A100a" in machine.sources["processors.cuda.memory_bandwidth_bytes_per_s"]
    assert machine.attention_devices == ("cuda", "pim")


def test_the_pim_tier_follows_from_the_geometry() -> None:
    machine = load_machine("attacc-hbm3")
    assert machine.pim is not None
    assert machine.tiers["pim"].capacity_bytes == machine.pim.capacity_bytes == 5 * 16 << 30
    # AttAcc's peak at bank level under the power cap: 7.10 TB/s for each of the five stacks.
    assert machine.pim.internal_bandwidth_bytes_per_s / 5 == pytest.approx(7.10e12, rel=1e-3)


def test_a_file_of_the_user_is_read(tmp_path: Path) -> None:
    machine = load_machine(write(tmp_path, SMALL))
    assert machine.processors["host"].peak_flop_per_s == {"float32": 1e9}
    assert machine.sources["processors.host.peak_flop_per_s.float32"] == "made up"
    assert not machine.has_device("pim")


@pytest.mark.parametrize(
    ("old", "new", "key", "reason"),
    [
        ("launch_ns = 0", "launch_ms = 0", "processors.host.launch_ns", "missing"),
        ("launch_ns = 0", "launch_ns = 0\nlanch_ns = 1", "processors.host.lanch_ns", "launch_ns?"),
        ("launch_ns = 0", "launch_ns = -1", "processors.host.launch_ns", "must be >= 0, got -1"),
        ("launch_ns = 0", 'launch_ns = "0"', "processors.host.launch_ns", "must be a number"),
        (
            "memory_efficiency = 1",
            "memory_efficiency = 2",
            "processors.host.memory_efficiency",
            "1",
        ),
        ('source = "made up"\nmem', "mem", "processors.host.peak_flop_per_s.float32", "source"),
        ('memory_tier = "host"', 'memory_tier = "x"', "processors.host.memory_tier", "no tier 'x'"),
        ('dtype = "float32"', 'dtype = "int4"', "processors.host.default_dtype", "no peak"),
        ("[processors.host]", "[processors.tpu]", "processors", "needs one of cuda, host"),
        ("{ value = 1e9,", "{ value = 1.5,", "tiers.host.capacity_bytes", "whole number"),
        ("[tiers.host]", "[[links]]\nfrom = 1\n[tiers.host]", "links[0].from", "must be a text"),
        ('name = "small"', 'name = "small"\nextends = "nil"', "", "no such machine"),
        ('name = "small"', 'name = "small"\nextends = "small.toml"', "extends", "itself"),
        ('name = "small"', "name = small", "", "cannot be read"),
    ],
)
def test_a_wrong_file_gets_file_key_and_reason(
    tmp_path: Path, old: str, new: str, key: str, reason: str
) -> None:
    assert old in SMALL
    path = write(tmp_path, SMALL.replace(old, new, 1))
    with pytest.raises(MachineError) as error:
        load_machine(path)
    assert error.value.key == key
    assert reason in error.value.reason
    assert error.value.file in (str(path), "nil")


STACKS = """
[pim]
source = "test"
{0}
[pim.unit]
source = "test"
{1}
[pim.timing]
source = "test"
{2}
[pim.levels.bank]
source = "test"
{3}
"""


@pytest.mark.parametrize(
    ("part", "line", "key", "reason"),
    [
        (0, "pim_sids = 3", "pim_sids", "3 of 2 sids cannot compute"),
        (0, "sids = 0", "sids", "must be > 0, got 0"),
        (0, "pim_rows = 4096", "pim_rows", "4096 is more than the 2048 rows of a dense bank"),
        (0, "dies = 7", "dies", "7 dies are not a whole number for each of 2 sids"),
        (0, 'level = "row"', "level", "no [pim.levels.row]"),
        (0, "power_cap = 1", "power_cap", "must be true or false, got 1"),
        (0, "dma_bandwidth_bytes_per_s = 1e15", "dma_bandwidth_bytes_per_s", "is above bandwidth"),
        (0, "launch_ns = nan", "launch_ns", "must be a number up to 1e+30"),
        (0, "launch_ns = inf", "launch_ns", "must be a number up to 1e+30"),
        (0, f"rows = 1{'0' * 400}", "rows", "must be a number up to 1e+30"),
        (0, "chanels = 2", "chanels", "unknown key; did you mean channels?"),
        (1, "lanes = 8", "unit.lanes", "8 FP16 lanes do not take 32 bytes a column"),
        (1, "banks_per_unit = 3", "unit.banks_per_unit", "3 does not divide the 4 banks"),
        (2, "rc_cycles = 44", "timing.rc_cycles", "44 is below ras_cycles = 45"),
        (2, "ccd_l_cycles = 1", "timing.ccd_l_cycles", "1 is below ccd_s_cycles = 2"),
        (2, "refi_cycles = 455", "timing.refi_cycles", "455 is below rfc_cycles = 456"),
        (2, "rp_cycles = 1.5", "timing.rp_cycles", "must be a whole number, got 1.5"),
        (3, "capped_cycles = 3", "levels.bank.capped_cycles", "3 is below uncapped_cycles = 4"),
        (3, "[pim.levels.row]", "levels.row.capped_cycles", "missing"),
        (
            3,
            "[pim.levels.row]\nsource = 't'\ncapped_cycles = 2\nuncapped_cycles = 2",
            "levels.row",
            "no such level; there are bank, bank-group, buffer",
        ),
    ],
)
def test_a_stack_must_be_possible(
    tmp_path: Path, part: int, line: str, key: str, reason: str
) -> None:
    parts = [line if index == part else "" for index in range(4)]
    path = write(tmp_path, 'extends = "this-host-pim"\nname = "odd"\n' + STACKS.format(*parts))
    with pytest.raises(MachineError) as error:
        load_machine(path)
    assert error.value.key == f"pim.{key}"
    assert reason in error.value.reason
    assert str(error.value).startswith(f"{path}: pim.{key}: ")


def test_a_number_does_not_take_the_source_of_the_one_it_replaces(tmp_path: Path) -> None:
    path = write(tmp_path, 'extends = "this-host-pim"\nname = "odd"\n[pim]\npim_sids = 1\n')
    with pytest.raises(MachineError, match=r"pim\.pim_sids: has no source; write \{ value"):
        load_machine(path)


@pytest.mark.parametrize(
    ("tier", "base"), [("pim", "attacc-hbm3"), ("pim", "hbm4-dense"), ("dense", "hbm4-het-1of4")]
)
def test_what_the_stacks_hold_is_not_said_twice(tmp_path: Path, tier: str, base: str) -> None:
    text = f'extends = "{base}"\nname = "odd"\n[tiers.{tier}]\nsource = "test"\n'
    path = write(tmp_path, text + "capacity_bytes = 1\nbandwidth_bytes_per_s = 1\n")
    with pytest.raises(MachineError, match=rf"tiers\.{tier}: follows from \[pim\]"):
        load_machine(path)


def pim(name: str) -> PimStack:
    stack = load_machine(name).pim
    assert stack is not None
    return stack


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("hbm4-dense", 64),
        ("hbm4-het-1of4", 56),
        ("hbm4-het-2of4", 48),
        ("hbm4-uniform", 32),
        ("hbm4-dedicated", 32),
        ("attacc-hbm3", 16),
        ("hbm2-pim", 4),
    ],
)
def test_a_stack_holds_what_is_published(name: str, gib: int) -> None:
    stack = pim(name)
    assert stack.capacity_bytes == stack.stacks * gib << 30
    assert stack.capacity_bytes == stack.pim_bytes + stack.dense_bytes


def test_capacity_is_linear_in_the_computing_sids() -> None:
    one = replace(pim("hbm4-dense"), stacks=1)
    sizes = [replace(one, pim_sids=number).capacity_bytes >> 30 for number in range(5)]
    assert sizes == [64, 56, 48, 40, 32]
    assert one.density == 0.5


def test_bandwidths_are_those_of_the_notes() -> None:
    # HBM4: 2.048 TB/s outside; 16.38 TB/s inside for a SID, 10.92 capped (Ramulator 2.1 numbers).
    het = pim("hbm4-het-1of4")
    assert het.bandwidth_bytes_per_s / het.stacks == 2.048e12
    uncapped = het.at(power_cap=False)
    assert uncapped.internal_bandwidth_bytes_per_s / het.stacks == pytest.approx(16.384e12)
    assert het.internal_bandwidth_bytes_per_s / het.stacks == pytest.approx(10.923e12, rel=1e-4)
    # Samsung: four times the external bandwidth, 64 pseudo channels.
    hbm2 = pim("hbm2-pim")
    assert hbm2.stacks * hbm2.channels * hbm2.pseudo_channels == 64
    assert hbm2.internal_bandwidth_bytes_per_s == pytest.approx(4.096e12)
    assert hbm2.internal_bandwidth_bytes_per_s == pytest.approx(4 * hbm2.bandwidth_bytes_per_s)


@pytest.mark.parametrize(("level", "ratio"), [("bank", 9), ("bank-group", 3), ("buffer", 1)])
def test_units_of_a_level(level: str, ratio: int) -> None:
    # AttAcc's own factors of the external bandwidth are rounded: 9, 3 and 1 under the cap.
    stack = pim("attacc-hbm3").at(level)
    units = {"bank": 1024, "bank-group": 256, "buffer": 32}[level]
    assert stack.num_units == 5 * units
    factor = stack.internal_bandwidth_bytes_per_s / stack.bandwidth_bytes_per_s
    assert factor == pytest.approx(ratio, rel=0.2)
    with pytest.raises(ValueError, match="no units at level 'row'; there are bank, bank-group"):
        stack.at("row")


def test_a_machine_without_computing_sids_has_no_pim_device() -> None:
    machine = load_machine("hbm4-dense")
    assert machine.pim is not None
    assert not machine.has_device("pim")
    assert machine.attention_devices == ("cuda",)
    assert machine.pim.num_units == machine.pim.at("buffer").num_units == 0
    assert machine.tiers["dense"].capacity_bytes == 6 * 64 << 30
    assert "pim" not in machine.tiers


def test_stacks_of_two_kinds_are_two_tiers() -> None:
    machine = load_machine("hbm4-dedicated")
    sizes = {name: machine.tiers[name].capacity_bytes >> 30 for name in ("pim", "dense")}
    assert sizes == {"pim": 3 * 32, "dense": 3 * 64}


@pytest.mark.parametrize(
    ("speed", "cycle_ns", "interval"),
    [("4.8", 0.833, 6), ("5.6", 0.714, 6), ("6.0", 0.666, 6), ("6.4", 0.625, 7)],
)
def test_the_other_speeds_are_parts_that_a_file_can_extend(
    tmp_path: Path, speed: str, cycle_ns: float, interval: int
) -> None:
    text = f'extends = ["this-host-pim", "parts/hbm3-pim-{speed}.toml"]\nname = "fast"\n'
    stack = load_machine(write(tmp_path, text)).pim
    assert stack is not None
    assert (stack.timing.cycle_ns, stack.mac_interval_cycles) == (cycle_ns, interval)
    # 3.9 us and 350 ns whatever the speed.
    assert stack.timing.refi_cycles * cycle_ns == pytest.approx(3900, rel=2e-3)
    assert stack.timing.rfc_cycles * cycle_ns == pytest.approx(350, abs=1)


def test_two_files_cannot_extend_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('extends = "./b.toml"')
    (tmp_path / "b.toml").write_text('extends = "./a.toml"')
    with pytest.raises(MachineError, match="cannot extend itself"):
        load_machine(tmp_path / "a.toml")


def test_an_unknown_machine_gets_the_nearest_name() -> None:
    with pytest.raises(MachineError, match="did you mean a100-80g"):
        load_machine("a100-80")


def test_a_missing_file_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot be read: No such file"):
        load_machine(tmp_path / "none.toml")
