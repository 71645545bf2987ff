from __future__ import annotations

import pytest

from tokenloom.backends.cost import CostModel, ModelShape
from tokenloom.backends.machine import load_machine

SMOLLM2 = ModelShape(hidden=576, layers=30, heads=9, kv_heads=3, head_dim=64, ffn=1536, vocab=49152)
GPT3 = ModelShape(
    hidden=12288, layers=96, heads=96, kv_heads=96, head_dim=128, ffn=49152, vocab=50257
)


def test_linear_follows_the_roofline() -> None:
    machine = load_machine("a100-80g")
    cost = CostModel(machine)
    launch = machine.processors["cuda"].launch_ns
    few = cost.linear_ns("cuda", 1, 8192, 8192) - launch
    weights = (8192 * 8192 + 2 * 8192) * 2
    assert few == pytest.approx(weights / (2.039e12 * 0.85) * 1e9)
    many = cost.linear_ns("cuda", 8192, 8192, 8192) - launch
    assert many == pytest.approx(2 * 8192**3 / (312e12 * 0.8) * 1e9)


def test_a_dtype_of_the_caller_wins() -> None:
    cost = CostModel(load_machine("a100-80g"), dtype="float32")
    half = cost.linear_ns("cuda", 1, 4096, 4096, "float16")
    assert cost.linear_ns("cuda", 1, 4096, 4096) > 1.8 * half


def test_heads_beyond_the_channels_take_another_round() -> None:
    cost = CostModel(load_machine("attacc-hbm3"))
    launch = cost.attention_ns("pim", "decode", 0, 512, 80, 80, 128)

    def cycles(heads: int) -> float:
        moved = 4 * heads * 128 * 2 / 300e9 * 1e9  # q, k and v in, the result out
        total = cost.attention_ns("pim", "decode", 1, 512, heads, heads, 128)
        return (total - launch - moved) / 0.769

    assert cycles(1) == pytest.approx(930)
    assert cycles(80) == pytest.approx(930)
    assert cycles(81) == pytest.approx(1855)  # two heads of a channel overlap


def test_heads_that_share_their_kv_read_each_row_once() -> None:
    cost = CostModel(load_machine("attacc-hbm3"))
    grouped = cost.attention_ns("pim", "decode", 1, 4096, 640, 80, 128)
    alone = cost.attention_ns("pim", "decode", 1, 4096, 640, 640, 128)
    assert grouped < 0.9 * alone


def test_a_copy_takes_the_quickest_way() -> None:
    cost = CostModel(load_machine("a100-80g"))
    assert cost.copy_ns("dense", "host", 32e9) == pytest.approx(1e9 + 10_000)
    assert cost.copy_ns("disk", "dense", 0) == pytest.approx(90_000)
    assert cost.copy_ns("dense", "dense", 2.039e12) == pytest.approx(2e9)
    with pytest.raises(KeyError, match="no way from dense to pim"):
        cost.copy_ns("dense", "pim", 1)


def test_steps_grow_with_work() -> None:
    cost = CostModel(load_machine("this-host"))
    assert cost.prefill_ns(SMOLLM2, 128) < cost.prefill_ns(SMOLLM2, 256)
    assert cost.prefill_ns(SMOLLM2, 128) < cost.prefill_ns(SMOLLM2, 128, context=1024)
    assert cost.decode_ns(SMOLLM2, 1, 128) < cost.decode_ns(SMOLLM2, 1, 1024)
    one, sixteen = cost.decode_ns(SMOLLM2, 1, 128), cost.decode_ns(SMOLLM2, 16, 128)
    assert one < sixteen < 16 * one


def test_prefill_in_two_chunks_computes_as_much_attention_as_in_one() -> None:
    cost = CostModel(load_machine("this-host"))
    heads = (SMOLLM2.heads, SMOLLM2.kv_heads, SMOLLM2.head_dim)
    launch = load_machine("this-host").processors["host"].launch_ns
    whole = cost.attention_ns("host", "prefill", 2048, 2048, *heads) - launch
    first = cost.attention_ns("host", "prefill", 1024, 1024, *heads) - launch
    second = cost.attention_ns("host", "prefill", 1024, 2048, *heads) - launch
    assert first + second == pytest.approx(whole)


def test_the_table_sends_long_decodes_to_pim_and_prefill_to_the_gpu() -> None:
    cost = CostModel(load_machine("attacc-hbm3"))
    short, long = cost.attention_table(GPT3, "decode", [1], [64, 2048])
    assert (short.best, long.best) == ("cuda", "pim")
    assert set(long.time_ns) == {"cuda", "pim"}
    (prefill,) = cost.attention_table(GPT3, "prefill", [512], [2048])
    assert prefill.best == "cuda"


def test_kv_bytes() -> None:
    assert SMOLLM2.kv_bytes_per_token("float16") == 2 * 30 * 3 * 64 * 2


def test_schedules_of_attention_are_quoted_the_quickest_first() -> None:
    found = CostModel(load_machine("attacc-hbm3")).pim_attention_schedules(SMOLLM2, 1, 2048)
    times = [cost.time_ns for cost in found.costs]
    assert times == sorted(times)
    assert len({cost.name for cost in found.costs}) == len(times) > 1
    assert all(cost.event_ns is None for cost in found.costs)
    assert (found.batch, found.context) == (1, 2048)


def test_a_machine_without_stacks_quotes_no_schedules() -> None:
    with pytest.raises(KeyError, match="machine h100 has no pim"):
        CostModel(load_machine("h100")).pim_attention_schedules(SMOLLM2, 1, 2048)


def test_stacks_without_units_say_what_they_lack() -> None:
    found = CostModel(load_machine("hbm4-dense")).pim_attention_schedules(SMOLLM2, 1, 2048)
    assert found.costs == ()
    assert "without computing SIDs" in found.reason
