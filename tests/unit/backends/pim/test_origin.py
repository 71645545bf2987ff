# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Values and commands of a PIM kernel have one origin: its schedule, which changes both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm

from tokenloom.backends.kernels.pim_gemv import GemvShape, scheduled
from tokenloom.backends.kernels.pim_record import MARK, commands, values
from tokenloom.backends.pim.operations.gemv import Gemv
from tokenloom.backends.pim.operations.gemv_layout import GemvLayout, GemvSchedule
from tokenloom.backends.pim.operations.specs import gemv_spec
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import CommandStream, Op

BASE = GemvSchedule(8, 4)
OTHERS = {
    "another order": replace(BASE, operand_inner=True),
    "another split": replace(BASE, operands=4),
    "another level": replace(BASE, level="bank-group"),
    "commands for each channel": replace(BASE, by_channel=True),
}
OUTPUTS, INPUTS = 1000, 300


def function_of(stack: PimStack, schedule: GemvSchedule) -> Any:
    layout = GemvLayout.of(stack, OUTPUTS, INPUTS, schedule)
    return scheduled("main", GemvShape.of(gemv_spec(layout, schedule, "fp16")))


def assembly(function: Any) -> str:
    target = tvm.target.Target({"kind": "llvm"})
    return tvm.compile(tvm.IRModule({"main": function}), target=target).mod.inspect_source("asm")


def stream_of(stack: PimStack, schedule: GemvSchedule) -> CommandStream:
    weights = np.zeros((OUTPUTS, INPUTS), np.float16)
    return Gemv.load(stack, weights, schedule=schedule).stream()


@pytest.mark.parametrize("change", OTHERS)
def test_a_changed_schedule_changes_the_machine_code_and_the_commands(stack: PimStack, change: str):
    before, after = function_of(stack, BASE), function_of(stack, OTHERS[change])
    assert assembly(values(before)) != assembly(values(after))
    before_stream, after_stream = stream_of(stack, BASE), stream_of(stack, OTHERS[change])
    assert before_stream.records.tobytes() != after_stream.records.tobytes()


def test_the_same_schedule_gives_the_same_machine_code_and_commands(stack: PimStack):
    first, second = function_of(stack, BASE), function_of(stack, replace(BASE))
    assert assembly(values(first)) == assembly(values(second))
    assert np.array_equal(stream_of(stack, BASE).records, stream_of(stack, BASE).records)


def test_each_command_stands_beside_its_arithmetic(stack: PimStack):
    """Taking the commands away leaves only arithmetic, taking that away leaves only commands."""
    function = function_of(stack, BASE)
    both, computing = function.script(), values(function).script()
    recording = commands(function).script()
    assert both.count(MARK) == 3
    assert MARK not in computing
    assert "float16x16" in computing
    assert "float16x16" not in recording
    assert recording.count("count[0] = count[0] + 1") + recording.count("count = count + 1") == 3


def test_an_order_of_sums_that_changes_their_bits_changes_the_commands_alike(stack: PimStack):
    """Two banks for each unit: inputs are added tile by tile of each bank, in both artefacts."""
    paired = replace(stack, unit=replace(stack.unit, banks_per_unit=2))
    random = np.random.default_rng(0)
    weights = random.standard_normal((64, 512)).astype(np.float16)
    vector = random.standard_normal(512).astype(np.float16)
    tiles = {size: Gemv.load(paired, weights, schedule=GemvSchedule(size, 1)) for size in (4, 8)}
    lanes = {size: loaded.run(vector).lanes for size, loaded in tiles.items()}
    assert not np.array_equal(lanes[4], lanes[8])
    for size, loaded in tiles.items():
        sources = [c.address // 16 for c in loaded.stream() if c.op is Op.WR_GB]
        order = [t * size + e for q in (0, 1) for t in range(q, 32 // size, 2) for e in range(size)]
        assert sources == order
        total = np.zeros((64, 16), np.float16)
        for column in order:
            part = slice(column * 16, column * 16 + 16)
            total = total + weights[:, part] * vector[part]
        assert np.array_equal(lanes[size], total)


def test_a_schedule_is_part_of_the_compiled_library_s_name(stack: PimStack):
    schedules = [BASE, *OTHERS.values()]
    layouts = [GemvLayout.of(stack, OUTPUTS, INPUTS, schedule) for schedule in schedules]
    pairs = zip(layouts, schedules, strict=True)
    assert len({gemv_spec(*pair, "fp16").key() for pair in pairs}) == len(schedules)
