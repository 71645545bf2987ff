from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.backends.cost import ModelShape
from tokenloom.backends.device import DeviceError
from tokenloom.backends.machine import Machine, MachineError, load_machine
from tokenloom.backends.system.estimate import Estimate, Workload, configured, estimate
from tokenloom.backends.system.gpu import Cost, Gpu
from tokenloom.backends.system.layers import Shard
from tokenloom.backends.system.near import beside, shared
from tokenloom.backends.system.tiles import Product, traffic
from tokenloom.compiler.analysis.model_costs import model_shape
from tokenloom.models.catalog import catalog

GPT = model_shape(catalog()["gpt-175b"])
LLAMA = model_shape(catalog()["llama-3-8b"])
DGX = load_machine("dgx-a100-80g")
assert DGX.system is not None
CHIP = DGX.system.chip
WORK = Workload(batch=54, prompt=2048, output=2048, dtype="float16")


def on(machine: str | Machine, shape: ModelShape = GPT, work: Workload = WORK) -> Estimate:
    return estimate(load_machine(machine) if isinstance(machine, str) else machine, shape, work)


def test_a_tile_reads_each_operand_once_where_it_fits() -> None:
    moved = traffic(Product(1, 4608, 12288), 2, CHIP)
    assert moved.memory_bytes == 2 * (12288 + 4608 * 12288 + 4608)
    assert moved.memory_bytes <= moved.l2_bytes <= moved.l1_bytes


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 4096),
    outputs=st.integers(1, 8192),
    inner=st.integers(1, 16384),
    repeats=st.integers(1, 300),
    spread=st.booleans(),
)
def test_no_product_moves_less_than_its_operands(
    rows: int, outputs: int, inner: int, repeats: int, spread: bool
) -> None:
    moved = traffic(Product(rows, outputs, inner, repeats, spread), 2, CHIP)
    least = 2 * repeats * (rows * inner + inner * outputs + rows * outputs)
    assert moved.memory_bytes >= least
    assert moved.l2_bytes >= least
    assert 0 < moved.utilization <= 1


def test_a_gpu_is_as_fast_as_its_longer_bound() -> None:
    machine = load_machine("dgx-a100-80g")
    assert machine.system is not None
    gpu = Gpu(machine.processors["cuda"], machine.system, "float16")
    read = gpu.product(Product(1, 12288, 12288))
    assert not read.compute_bound
    least_ns = 2 * 12288 * 12288 / (3.352e12 * 0.85) * 1e9
    assert least_ns <= read.time_ns <= 1.3 * least_ns
    computed = gpu.product(Product(8192, 12288, 12288))
    assert computed.compute_bound
    assert computed.time_ns >= 2 * 8192 * 12288**2 / (312e12 * 0.8) * 1e9


def test_one_device_exchanges_nothing() -> None:
    found = on("a100-80g", LLAMA, replace(WORK, batch=4))
    assert found.time_ns["communication"] == 0
    assert found.energy_pj["communication"] == 0


costs = st.floats(1, 1e6).map(Cost)


@given(attention=costs, others=st.lists(costs, min_size=1, max_size=3), heads=st.integers(1, 96))
def test_beside_each_other_the_longest_shows_whole(
    attention: Cost, others: list[Cost], heads: int
) -> None:
    times = [attention.time_ns, *(cost.time_ns for cost in others)]
    shown = beside(attention, others, heads)
    total_ns = attention.time_ns + sum(cost.time_ns for cost in shown)
    expected = max(times) + (sum(times) - max(times)) / heads
    assert total_ns == pytest.approx(expected)


def test_units_take_their_share_of_an_mlp() -> None:
    machine = load_machine("dgx-attacc-bank")
    assert machine.system is not None
    gpu = Gpu(machine.processors["cuda"], machine.system, "float16")
    bandwidth = 9 * gpu.bandwidth_bytes_per_s
    assert shared([Cost(100.0)], gpu, bandwidth, rows=1).time_ns == pytest.approx(10)
    assert shared([Cost(100.0)], gpu, bandwidth, rows=9).time_ns == pytest.approx(50)
    flops = bandwidth / 2 * 2
    bound = shared([Cost(100.0, compute_bound=True)], gpu, bandwidth, rows=9)
    assert bound.time_ns == pytest.approx(100 * 312e12 / (312e12 + flops))


@settings(max_examples=50, deadline=None)
@given(
    heads=st.integers(1, 12).map(lambda n: 8 * n),
    group=st.sampled_from([1, 2, 4, 8]),
    devices=st.integers(1, 16),
)
def test_devices_hold_all_of_a_model(heads: int, group: int, devices: int) -> None:
    shape = ModelShape(4096, 32, heads, heads // group, 128, 14336, 128256)
    shard = Shard.of(shape, devices)
    assert shard.kv_heads * devices >= shape.kv_heads
    assert shard.heads * devices >= shape.heads
    assert shard.heads >= shard.kv_heads
    assert Shard.of(shape, 1).weights == 4096 * (2 * (heads + heads // group) * 128 + 3 * 14336)


def test_stacks_that_compute_are_faster_and_take_less_energy() -> None:
    names = ("dgx-attacc-bank", "dgx-attacc-bank-group", "dgx-attacc-buffer", "dgx-a100-160g")
    found = [on(name) for name in names]
    energies = [one.energy_pj["attention"] for one in found]
    assert energies == sorted(energies)
    times = [one.step_ns for one in found]
    assert times == sorted(times)


def test_energy_of_attention_at_bank_level_is_that_of_reading_kv() -> None:
    found = on("dgx-attacc-bank")
    kv_bytes = 54 * GPT.kv_bytes_per_token("float16") * (2048 + 1024)
    # 4.4 pJ a byte to read it and 0.16 to multiply it; rows opened in part, the way of queries,
    # scores, probabilities and results, and softmax take the rest.
    assert 4.56 < found.energy_pj["attention"] / kv_bytes < 4.56 * 1.07


def test_without_the_power_cap_time_falls_and_energy_stays() -> None:
    capped = on("dgx-attacc-bank")
    free = on(configured(load_machine("dgx-attacc-bank"), power_cap=False))
    assert free.step_ns < capped.step_ns
    assert free.energy_pj["attention"] == capped.energy_pj["attention"]


def test_sums_are_conserved_and_a_batch_shares_its_energy() -> None:
    found = on("dgx-attacc-bank")
    assert found.tokens_per_s == pytest.approx(54e9 / sum(found.time_ns.values()))
    assert found.token_energy_pj * 54 == pytest.approx(sum(found.energy_pj.values()))


@pytest.mark.parametrize(
    "name",
    ["a100-80g", "h100", "h200", "attacc-hbm3", "hbm4-dense", "hbm4-uniform", "hbm4-het-1of4"],
)
def test_every_machine_with_a_gpu_can_be_asked(name: str) -> None:
    found = on(name, LLAMA, Workload(8, 1024, 64, "float16"))
    assert found.step_ns > 0
    assert found.prefill_ns > found.step_ns
    assert all(pj >= 0 for pj in found.energy_pj.values())


def test_the_mean_over_lengths_is_that_of_all() -> None:
    short = Workload(1, 100, 60, "float16").lengths()
    assert short == list(range(101, 160))
    long = WORK.lengths()
    assert (long[0], long[-1], len(long)) == (2049, 4095, 64)
    assert sum(long) / len(long) == pytest.approx((2049 + 4095) / 2, abs=0.5)


def test_what_does_not_fit_is_named_with_what_would() -> None:
    with pytest.raises(DeviceError, match=r"54 requests of 2048 \+ 2048 tokens .* 23 requests fit"):
        on("dgx-a100-80g")
    with pytest.raises(DeviceError, match=r"weights take 326\.3 GiB as float16, .* 74\.5 GiB"):
        on("a100-80g")
    on("dgx-a100-80g", work=replace(WORK, batch=23))


def test_kv_beyond_the_stacks_is_told() -> None:
    notes = on("dgx-attacc-bank").capacity.notes
    assert any("the stacks that compute hold 640.0 GiB" in note for note in notes)
    assert on("dgx-attacc-bank", work=replace(WORK, batch=40)).capacity.notes == ()


def test_machines_and_choices_that_are_not_there() -> None:
    with pytest.raises(MachineError, match="this-host: system: missing"):
        on("this-host", LLAMA)
    host = load_machine("dgx-a100-80g")
    with pytest.raises(DeviceError, match="no stacks that compute"):
        configured(host, level="bank")
    with pytest.raises(DeviceError, match=r"no \[system.near_memory\]"):
        configured(host, overlap=True)
    with pytest.raises(DeviceError, match="no units at level 'die'"):
        configured(load_machine("dgx-attacc-bank"), level="die")
    with pytest.raises(MachineError, match=r"peak_flop_per_s\.float64: missing; there are float16"):
        on(host, work=replace(WORK, dtype="float64"))
    with pytest.raises(DeviceError, match="compute in float16 and int8, not in bfloat16"):
        on("dgx-attacc-bank", work=replace(WORK, dtype="bfloat16"))
    with pytest.raises(DeviceError, match="one token in and two out"):
        replace(WORK, output=1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("devices = 8", "devices = 0", "system.devices: must be > 0"),
        ("devices = 8", "devices = 8\nspeed = 1", "system.speed: unknown key"),
        (
            "[system.near_memory.ratio.bank]",
            "[system.near_memory.ratio.bench]",
            "ratio.bench: no such level; there are bank",
        ),
    ],
)
def test_a_wrong_system_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = """
extends = "dgx-a100-80g"
name = "mine"
description = "changed"
[system]
source = "made up"
devices = 8
[system.near_memory]
overlap = true
share_feed_forward = false
[system.near_memory.ratio.bank]
capped = 9
uncapped = 16
"""
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(MachineError, match=message.replace("[", r"\[")):
        load_machine(path)
    path.write_text(text)
    assert load_machine(path).system is not None
