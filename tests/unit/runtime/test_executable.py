from __future__ import annotations

from dataclasses import replace

import pytest

from tokenloom.kernel_spec import KernelSpec
from tokenloom.runtime.executable import (
    BufferDecl,
    CopyStep,
    ExecutableError,
    Launch,
    ModelExecutable,
)

GOOD = ModelExecutable(
    "m",
    {},
    16,
    64,
    (
        BufferDecl("positions@pim", ("rows",), "int32", "input", "pim"),
        BufferDecl("keys.0", ("pages", 2, 16, 16), "float16", "state", "pim"),
        BufferDecl("logits", ("logit_rows", 32), "float32", "output"),
    ),
    (),
    (),
)


def test_facts_that_follow_from_the_declarations():
    assert (GOOD.kv_device, GOOD.kv_dtype) == ("pim", "float16")
    assert GOOD.devices == ("host", "pim")
    assert GOOD.by_name["positions@pim"].input_name == "positions"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": (CopyStep("logits", "lost"),)}, "copy logits -> lost names 'lost'"),
        (
            {"steps": (Launch(KernelSpec.of("add", hidden=4), "host", ("logits", "y", "n")),)},
            "names 'y', which is not declared",
        ),
        ({"buffers": GOOD.buffers[:2]}, "no output buffer named 'logits'"),
        ({"buffers": GOOD.buffers[2:]}, "no KV pool named 'keys.0'"),
        (
            {"buffers": (*GOOD.buffers, BufferDecl("x", ("columns",), "int32", "temp"))},
            "buffer 'x': unknown run-time size 'columns'",
        ),
        (
            {"buffers": (*GOOD.buffers, BufferDecl("x", ("rows",), "int32", "input"))},
            "buffer 'x': no input of that name",
        ),
    ],
)
def test_contradictions_are_named(changes: dict[str, object], message: str):
    with pytest.raises(ExecutableError, match=message):
        replace(GOOD, **changes)  # pyright: ignore[reportArgumentType]
