"""`pim layout`: where a tensor lies, as text, JSON and SVG, and what is said of wrong input."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.drawing import TensorMap, kv_map
from tokenloom.cli.layout_svg import map_svg
from tokenloom.cli.layout_view import map_lines

Run = Callable[..., tuple[int, str, str]]

KV = ["pim", "layout", "--machine", "attacc-hbm3"]
SHAPE = ["--heads", "2", "--head-dim", "64", "--length", "20"]

TEXT = """\
keys and values, FP16: heads 2, tokens 20, dimensions 64

A channel has 16 slots (pseudo channel.SID.bank group) of 4 banks; a column has 16 FP16 lanes.
A page of 16 tokens of a head is 1 of the 32 columns of a row, in all banks of its channel.
Of a head, all tokens stay in one channel.
Keys take rows 0 to 0 and values as many after them, of 16,384; \
62.5% of their pages' lanes hold data.

channel  rows           what
      0  0 to 0         head 0, tokens 0 to 19
      1  0 to 0         head 1, tokens 0 to 19

keys of head 0, tokens 0 to 15:
┌───────┬────────┬───────────┬────────────┬────────────┬────────────┐
│ slot  │ column │ bank 0    │ bank 1     │ bank 2     │ bank 3     │
├───────┼────────┼───────────┼────────────┼────────────┼────────────┤
│ 0.0.0 │ 0      │ t0 d0-15  │ t0 d16-31  │ t0 d32-47  │ t0 d48-63  │
"""


def drawn(heads: int = 2) -> TensorMap:
    stack = load_machine("attacc-hbm3").pim
    assert stack is not None
    return kv_map(stack, heads, 64, 20)


def test_keys_and_values_are_shown_as_text(run: Run) -> None:
    code, out, err = run(*KV, *SHAPE)
    assert (code, err) == (0, "")
    assert out.startswith(TEXT)
    assert out.splitlines()[-2].startswith("│ 1.1.3 │ 0      │ t15 d0-15 │")


def test_what_is_not_listed_is_counted() -> None:
    assert "                        and 76 more" in map_lines(drawn(100))
    assert not [line for line in map_lines(drawn()) if "more" in line]


def test_json_is_the_whole_map(run: Run) -> None:
    data = json.loads(run(*KV, *SHAPE, "--json")[1])
    assert data["shares"][1]["channel"] == 1
    assert data["cells"][0] == {"slot": 0, "bank": 0, "column": 0, "what": "t0 d0-15"}


def test_the_drawing_is_a_file_of_its_own(run: Run) -> None:
    code, out, err = run(*KV, *SHAPE, "--svg", "deep/kv.svg")
    assert (code, err) == (0, "Wrote deep/kv.svg\n")
    assert out.startswith(TEXT)
    text = Path("deep/kv.svg").read_text("utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [node.text for node in root.iter() if node.text]
    assert {"ch 0", "ch 79", "head 1", "t15 d48-63", "bank 3"} <= set(texts)
    assert "channel 1\nhead 1, tokens 0 to 19: rows 0 to 0" in texts
    assert "href" not in text
    assert "<script" not in text


def test_weights_are_shown_as_text(run: Run) -> None:
    arguments = ["--machine", "hbm2-pim", "--tensor", "gemv", "--rows", "4096", "--cols", "1024"]
    code, out, err = run("pim", "layout", *arguments)
    assert (code, err) == (0, "")
    assert out.startswith("weights, FP16: outputs 4096, inputs 1024\n")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "1 0 to 7 outputs 16 to 31, and of every 512 after" in lines
    assert "│ 0.0.0 │ 1 │ o512 i0-15 │ o512 i128-143 │ o513 i0-15 │ o513 i128-143 │" in lines


def test_everything_drawn_lies_inside_the_picture() -> None:
    root = ElementTree.fromstring(map_svg(drawn(2000)))
    width, height = int(root.attrib["width"]), int(root.attrib["height"])
    boxes = [node.attrib for node in root.iter() if node.tag.endswith("rect")]
    assert len(boxes) == 1 + 80 + 17 * 6
    for box in boxes:
        assert int(box.get("x", 0)) + int(box["width"]) <= width
        assert int(box.get("y", 0)) + int(box["height"]) <= height
    assert "Drawn are the first 1,024 of 2,000 shares." in map_svg(drawn(2000))


def test_text_in_the_drawing_is_escaped() -> None:
    svg = map_svg(replace(drawn(), title="<a & b>", tile="<t>", part="<p>"))
    texts = [node.text for node in ElementTree.fromstring(svg).iter() if node.text]
    assert {"<a & b>", "<t>:", "<p> 0"} <= set(texts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--machine", "h100", *SHAPE], "h100 has no PIM stack"),
        (["--machine", "hbm4-dense", *SHAPE], "none of the 4 SIDs of the stack is computing"),
        (["--machine", "attac-hbm3", *SHAPE], "did you mean attacc-hbm3?"),
        (["--machine", "attacc-hbm3", "--heads", "2"], "kv needs --heads, --head-dim and --length"),
        (["--machine", "hbm2-pim", "--tensor", "gemv", *SHAPE], "gemv needs --rows and --cols"),
        (
            ["--machine", "hbm2-pim", "--tensor", "gemv", "--rows", "1048576", "--cols", "1048576"],
            "a product of 1048576 x 1048576 takes",
        ),
        (
            ["--machine", "attacc-hbm3", *SHAPE, "--heads", "0"],
            "'--heads': Input should be greater than or equal to 1",
        ),
        (["--machine", "attacc-hbm3", *SHAPE, "--head-dim", "4096"], "a row has 32"),
        (["--machine", "attacc-hbm3", *SHAPE, "--length", "999999999"], "4,194,304 tokens fit"),
        (["--machine", "attacc-hbm3", *SHAPE, "--tensor", "x"], "'x' is not"),
        (SHAPE, "--machine"),
    ],
)
def test_wrong_input_is_named(run: Run, arguments: list[str], message: str) -> None:
    code, out, err = run("pim", "layout", *arguments)
    assert (code, out) == (2, "")
    assert message in err
