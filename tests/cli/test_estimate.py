"""`tokenloom estimate`: what it prints, and how it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., tuple[int, str, str]]
ASK = ("estimate", "--model", "gpt-175b", "--input", "2048", "--output", "2048")


def test_components_add_up(run: Run) -> None:
    code, out, err = run(*ASK, "--machine", "dgx-attacc-bank", "--batch", "54", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["model"] == "gpt-175b"
    assert found["ms_per_token"] == pytest.approx(30.22, rel=0.02)
    assert sum(found["ms_by_component"].values()) == pytest.approx(found["ms_per_token"])
    energy = found["energy_mj_by_component"]
    assert sum(energy.values()) == pytest.approx(found["energy_mj_per_token"])
    assert found["energy_mj_per_token"] - energy["static"] == pytest.approx(436.0, rel=0.02)
    assert found["tokens_per_s"] == pytest.approx(54e3 / found["ms_per_token"])
    assert found["requests_that_fit_at_full_length"] < 54 <= found["requests_that_fit"]


def test_the_table_has_every_component(run: Run) -> None:
    code, out, err = run(*ASK, "--machine", "dgx-attacc-bank", "--batch", "54")
    assert (code, err) == (0, "")
    lines = [line.split("│") for line in out.splitlines() if line.startswith("│")]
    names = [cells[1].strip() for cells in lines]
    assert names == ["fc", "attention", "communication", "other", "output", "static", "all"]
    assert "tokens/s; the prompts of all 54 take" in out
    assert "Note: KV takes 729.0 GiB, the stacks that compute hold 640.0 GiB" in out


def test_choices_change_the_time(run: Run) -> None:
    def ask(*options: str) -> dict[str, Any]:
        near = ("--machine", "dgx-attacc-bank", "--batch", "40", "--json")
        code, out, _ = run(*ASK, *near, *options)
        assert code == 0
        return json.loads(out)

    def ms(*options: str) -> float:
        return ask(*options)["ms_per_token"]

    asked = ms()
    assert ms("--no-power-cap") < asked < ms("--level", "bank-group") < ms("--level", "buffer")
    assert asked < ms("--no-share-ff") < ms("--no-share-ff", "--no-overlap")
    assert ms("--dtype", "int8") < asked
    eight, sixteen = ask()["ms_by_component"], ask("--devices", "16")["ms_by_component"]
    assert sixteen["attention"] == pytest.approx(eight["attention"] / 2, rel=0.1)
    assert sixteen["communication"] > eight["communication"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--machine", "dgx-atacc-bank"), "no such machine; did you mean dgx-attacc-bank?"),
        (("--machine", "dgx-a100-80g", "--model", "gpt-17b"), "did you mean 'gpt-175b'?"),
        (("--machine", "dgx-a100-80g", "--batch", "54"), "23 requests fit"),
        (("--machine", "a100-80g"), "the weights take 326.3 GiB as float16"),
        (("--machine", "this-host"), "this-host: system: missing"),
        (("--machine", "dgx-a100-80g", "--level", "bank"), "has no stacks that compute"),
        (("--machine", "dgx-a100-80g", "--batch", "0"), "greater than or equal to 1"),
        (("--machine", "dgx-attacc-bank", "--dtype", "fp32"), "compute in float16 and int8"),
    ],
)
def test_what_cannot_be_estimated(run: Run, options: tuple[str, ...], message: str) -> None:
    code, out, err = run(*ASK, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
