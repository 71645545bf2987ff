"""`tokenloom pim attention`, `gemv` and `trace`: what they print, write, check and refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokenloom.backends.pim.streams.text import parse_stream

Run = Callable[..., tuple[int, str, str]]
ATTACC = ("--machine", "attacc-hbm3")


def answer(run: Run, *arguments: str) -> dict[str, Any]:
    code, out, err = run("pim", *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


@pytest.mark.parametrize("method", ["--event", "--closed"])
@pytest.mark.parametrize(
    ("length", "options", "cycles"),
    [("512", (), 930), ("2048", (), 3810), ("512", ("--no-power-cap",), 682)],
)
def test_attention_takes_the_cycles_of_the_attacc_simulator(
    run: Run, length: str, options: tuple[str, ...], cycles: int, method: str
) -> None:
    arguments = (*ATTACC, "--length", length, "--heads", "16", *options, method)
    found = answer(run, "attention", *arguments)
    assert found["cycles"] == cycles
    assert found["time_ns"] == pytest.approx(cycles * 0.769)
    assert found["commands"]["MAC_TREE"] == 16 * int(length) // 8
    assert found["bytes"]["units"] == 2 * 16 * int(length) * 128 * 2
    parts = {name: part for name, part in found["energy_j"].items() if name != "total"}
    assert sum(parts.values()) == pytest.approx(found["energy_j"]["total"])


def test_levels_differ_in_cycles_and_in_energy(run: Run) -> None:
    arguments = ("attention", *ATTACC, "--length", "256", "--level")
    answers = [answer(run, *arguments, level) for level in ("bank", "bank-group", "buffer")]
    assert [found["level"] for found in answers] == ["bank", "bank-group", "buffer"]
    cycles = [found["cycles"] for found in answers]
    assert cycles == sorted(set(cycles))
    dynamic = [found["energy_j"]["path"] + found["energy_j"]["tsv"] for found in answers]
    assert dynamic == sorted(set(dynamic))


def test_kv_heads_are_read_once_for_the_heads_that_share_them(run: Run) -> None:
    arguments = ("attention", *ATTACC, "--length", "256", "--heads", "8")
    own, shared = answer(run, *arguments), answer(run, *arguments, "--kv-heads", "2")
    assert (own["kv_heads"], shared["kv_heads"]) == (8, 2)
    assert own["commands"]["ACT"] == 4 * shared["commands"]["ACT"]
    assert own["commands"]["MAC_TREE"] == shared["commands"]["MAC_TREE"]


def test_int8_halves_the_columns(run: Run) -> None:
    arguments = ("attention", *ATTACC, "--length", "256", "--dtype")
    half, eighth = (answer(run, *arguments, dtype) for dtype in ("fp16", "int8"))
    assert half["commands"]["MAC_TREE"] == 2 * eighth["commands"]["MAC_TREE"]


def test_gemv_reads_the_matrix_once(run: Run) -> None:
    found = answer(run, "gemv", *ATTACC, "--rows", "4096", "--cols", "256")
    stored = 4096 * 32
    assert found["bytes"]["units"] == 4096 * 256 * 2 + stored
    assert found["commands"]["MAC"] == found["commands"]["STORE"] * 256 // 16
    assert found["cycles"] > 0


def test_what_is_printed_for_people_has_units(run: Run) -> None:
    code, out, _ = run("pim", "attention", *ATTACC, "--length", "512")
    assert code == 0
    wanted = ["one stack of attacc-hbm3: bank level, power capped", "930 (each command timed)"]
    assert [
        text for text in [*wanted, "715.17 ns", "256 KiB", "GB/s", "uJ"] if text not in out
    ] == []


def test_a_trace_prints_the_first_and_the_last_commands(run: Run) -> None:
    code, out, _ = run("pim", "trace", *ATTACC, "--length", "512", "--limit", "6")
    assert code == 0
    assert out.splitlines() == [
        'stream "attention-1x512x128" machine="attacc-hbm3"',
        "MODE      ch=0 +on  @0",
        "WR_GB     ch=0 bank=0 addr=1024  32 B  @1",
        "WR_GB     ch=0 bank=0 src=1 addr=1040  32 B  @5",
        "# ... 190 commands left out; --limit 0 prints all",
        "MV_SB     ch=0 sid=0 bank=3 dst=1 addr=1088 +start +lanes  64 B  @928",
        "MV_SB     ch=0 sid=1 bank=3 dst=1 addr=1088 +lanes  64 B  @930",
        "MODE      ch=0  @930",
    ]
    macs = [
        line
        for line in run("pim", "trace", *ATTACC, "--length", "512", "--limit", "0")[1].splitlines()
        if line.startswith("MAC")
    ]
    assert [macs[0].split("@")[1], macs[31].split("@")[1], macs[32].split("@")[1]] == [
        "30",
        "216",
        "262",
    ]


@pytest.mark.parametrize("level", ["bank", "bank-group", "buffer"])
def test_a_written_trace_is_legal_and_shows_in_perfetto(run: Run, level: str) -> None:
    at = (*ATTACC, "--level", level)
    code, out, err = run(
        "pim",
        "trace",
        *at,
        "--length",
        "70",
        "--heads",
        "17",
        "-o",
        "a.pim",
        "--perfetto",
        "a.json",
    )
    assert (code, out) == (0, "")
    assert "a.json: open it in https://ui.perfetto.dev" in err
    stream = parse_stream(Path("a.pim").read_text("utf-8"))
    events = json.loads(Path("a.json").read_text("utf-8"))["traceEvents"]
    names = {event["name"] for event in events if event["ph"] == "X"}
    assert names == set(stream.counts())
    code, out, err = run("pim", "trace", *at, "--check", "a.pim")
    assert (code, out, err) == (0, f"a.pim: {len(stream):,} commands, no violation\n", "")


def test_a_command_moved_too_early_is_named(run: Run) -> None:
    run("pim", "trace", *ATTACC, "--length", "64", "-o", "a.pim")
    text = Path("a.pim").read_text("utf-8")
    Path("a.pim").write_text(text.replace("@42\n", "@41\n"), "utf-8")
    code, out, err = run("pim", "trace", *ATTACC, "--check", "a.pim")
    assert (code, out) == (2, "")
    assert err.startswith("error: a.pim: 1 violation\n  MAC_TREE at 41 ")
    assert "requires 6, found 5" in err


MANY = ("--length", "9000000")
REFUSED = {
    "unknown machine": (("attention", "--machine", "attac", "--length", "1"), "attac"),
    "no stack": (
        ("attention", "--machine", "h100", "--length", "1"),
        "machine h100 has no memory stack that computes; there are attacc-hbm3, ",
    ),
    "no units": (
        ("gemv", "--machine", "hbm4-dense", "--rows", "1", "--cols", "1"),
        "no memory stack",
    ),
    "no head dimension": (
        ("attention", *ATTACC, "--length", "1", "--head-dim", "0"),
        "'--head-dim'",
    ),
    "head dimension": (
        ("attention", *ATTACC, "--length", "1", "--head-dim", "9999"),
        "queries of 9999 elements to a KV head need more than the 16 registers and 64 operand",
    ),
    "shared heads": (
        ("attention", *ATTACC, "--length", "1", "--heads", "8", "--kv-heads", "3"),
        "8 query heads cannot share 3 KV heads evenly; give a number of KV heads that divides 8",
    ),
    "capacity": (
        ("attention", *ATTACC, *MANY, "--heads", "16", "--closed"),
        "do not fit into the 16 GiB of one stack; at most 2,097,152 tokens do",
    ),
    "matrix": (
        ("gemv", *ATTACC, "--rows", "1000000", "--cols", "100000"),
        "a product of 1000000 x 100000 takes ",
    ),
    "trace of nothing": (("trace", *ATTACC), "give --length, the tokens of each head, or --check"),
    "missing stream": (("trace", *ATTACC, "--check", "no.pim"), "no.pim: No such file"),
    "not a stream": (("trace", *ATTACC, "--check", "bad.pim"), "bad.pim:2:1: no command 'MAK'"),
    "not text": (("trace", *ATTACC, "--check", "raw.pim"), "raw.pim: byte 0 is not UTF-8"),
    "no such register": (
        ("trace", *ATTACC, "--check", "reg.pim"),
        "dst is 99; registers of a unit",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_input_is_refused_with_its_cause(run: Run, case: str) -> None:
    header = 'stream "x" machine="attacc-hbm3"\n'
    Path("bad.pim").write_text(f"{header}MAK @1\n", "utf-8")
    Path("reg.pim").write_text(f"{header}LOAD dst=99 @1\n", "utf-8")
    Path("raw.pim").write_bytes(b"\xff")
    arguments, message = REFUSED[case]
    code, out, err = run("pim", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
