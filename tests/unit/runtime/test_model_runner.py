from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tokenloom.backends.device import Device
from tokenloom.backends.null import NullDevice
from tokenloom.backends.pim.device import PimDevice
from tokenloom.models.llama import LlamaReference
from tokenloom.models.registry import Model
from tokenloom.runtime.batch import Chunk, Rows, build_batch
from tokenloom.runtime.engine import Engine, EngineOptions
from tokenloom.runtime.executable import ExecutableError, ModelExecutable
from tokenloom.runtime.model_runner import ModelRunner
from tokenloom.runtime.pages import PagePool, PageTable, extend
from tokenloom.runtime.request import Request
from tokenloom.runtime.sampling import SamplingParams

WriteExecutable = Callable[..., ModelExecutable]
NUM_PAGES = 32


@pytest.fixture
def pim() -> Iterator[Device]:
    device = PimDevice("exact")
    yield device
    device.close()


class Feeder:
    """Feeds tokens of several contexts to a runner, without an engine."""

    def __init__(self, runner: ModelRunner, num_contexts: int):
        self.runner = runner
        self.pool = PagePool(NUM_PAGES)
        # Interleaved growth scatters the pages of each context.
        self.tables = [PageTable(16) for _ in range(num_contexts)]

    def chunk(self, context: int, tokens: list[int]) -> Chunk:
        table = self.tables[context]
        start = table.num_tokens
        slots = extend(self.pool, table, len(tokens)).slots
        rows = Rows(np.array(tokens, np.int32), slots, start, table.frame_start)
        return Chunk((rows,), table, wants_logits=True)

    def step(self, decode: dict[int, list[int]], prefill: dict[int, list[int]]):
        chunks = [
            [self.chunk(context, tokens) for context, tokens in rows.items()]
            for rows in (decode, prefill)
        ]
        stage = self.runner.needs_staging
        return self.runner.run(build_batch(chunks[0], chunks[1], [], stage=stage))


def feed(runner: ModelRunner) -> tuple[list[list[int]], list[np.ndarray]]:
    """Run mixed steps of two contexts; return the tokens of both and their last logits."""
    random = np.random.default_rng(3)
    tokens: list[list[int]] = [random.integers(0, 256, 50).tolist() for _ in range(2)]
    feeder = Feeder(runner, 2)
    feeder.step({}, {0: tokens[0][:20], 1: tokens[1][:5]})
    feeder.step({}, {1: tokens[1][5:30], 0: tokens[0][20:49]})
    mixed = feeder.step({0: tokens[0][49:]}, {1: tokens[1][30:49]})
    last = feeder.step({1: tokens[1][49:]}, {})
    return tokens, [mixed[0], last[0]]


def test_mixed_steps_give_the_logits_of_the_reference(
    tiny: Model, host: Device, write_executable: WriteExecutable
):
    runner = ModelRunner(
        tiny, write_executable(tiny.config), {"host": host}, max_batch=4, num_pages=NUM_PAGES
    )
    tokens, logits = feed(runner)
    runner.close()
    reference = LlamaReference(tiny.config, tiny.weights())
    for ids, row in zip(tokens, logits, strict=True):
        expected = reference.extend(reference.start(), ids)[1][-1]
        assert np.abs(row - expected).max() < 1e-3


def test_pools_in_pim_memory_give_logits_near_the_reference(
    tiny: Model, host: Device, pim: Device, write_executable: WriteExecutable
):
    executable = write_executable(tiny.config, kv="pim")
    assert (executable.kv_device, executable.kv_dtype) == ("pim", "float16")
    devices = {"host": host, "pim": pim}
    runner = ModelRunner(tiny, executable, devices, max_batch=4, num_pages=NUM_PAGES)
    assert runner.needs_staging
    tokens, logits = feed(runner)
    runner.close()
    reference = LlamaReference(tiny.config, tiny.weights())
    for ids, row in zip(tokens, logits, strict=True):
        expected = reference.extend(reference.start(), ids)[1][-1]
        assert np.abs(row - expected).max() / np.abs(expected).max() < 2e-2
        assert row.argmax() == expected.argmax()


def test_the_engine_runs_with_its_pools_in_pim_memory(
    tiny: Model, host: Device, pim: Device, write_executable: WriteExecutable
):
    executable = write_executable(tiny.config, kv="pim")
    outputs: list[list[tuple[int, ...]]] = []
    for max_batch in (1, 8):
        options = EngineOptions(max_batch=max_batch, num_pages=64, chunk_tokens=16 * max_batch)
        engine = Engine(tiny, executable, {"host": host, "pim": pim}, options)
        root = engine.root()
        futures = [
            engine.submit(Request(root, tuple(f"number {n} of some".encode()), SamplingParams(12)))
            for n in range(4)
        ]
        first = [future.result(60) for future in futures]
        again = engine.submit(Request(first[0].context, (257, 10, 65), SamplingParams(6))).result(
            60
        )
        assert again.reused_prefix_tokens > 0
        engine.close()
        engine.check_integrity()
        outputs.append([c.output_ids for c in (*first, again)])
    # A prompt's rows see float16 keys either way, so chunks change nothing here either.
    assert outputs[0] == outputs[1]


def test_a_device_that_is_not_open_is_named(tiny: Model, write_executable: WriteExecutable):
    executable = write_executable(tiny.config, device="null")
    with pytest.raises(ExecutableError, match="needs device 'null'"):
        ModelRunner(tiny, executable, {}, max_batch=4, num_pages=NUM_PAGES)


def test_closing_gives_all_memory_back(tiny: Model, write_executable: WriteExecutable):
    device = NullDevice()
    before = device.capacity().size_bytes["dense"]
    executable = write_executable(tiny.config, device="null")
    runner = ModelRunner(tiny, executable, {"null": device}, max_batch=4, num_pages=NUM_PAGES)
    runner.close()
    device.allocate((before,), "int8")
