from __future__ import annotations

from pathlib import Path

import pytest

from tokenloom.backends.machine import MachineError, list_machines, load_machine

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
    expected = {"this-host", "this-host-pim", "a100-80g", "h100", "h200", "attacc-hbm3"}
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


def test_a_stack_must_be_possible(tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text('extends = "this-host-pim"\nname = "odd"\n[pim]\npim_sids = 3\n')
    with pytest.raises(MachineError, match=r"odd\.toml: pim\.pim_sids: 3 of 2 sids cannot compute"):
        load_machine(path)


def test_an_unknown_machine_gets_the_nearest_name() -> None:
    with pytest.raises(MachineError, match="did you mean a100-80g"):
        load_machine("a100-80")


def test_a_missing_file_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot be read: No such file"):
        load_machine(tmp_path / "none.toml")
