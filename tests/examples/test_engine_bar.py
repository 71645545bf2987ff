# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (transformers and torch leave parts of their signatures open)
from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tokenloom.backends.registry import open_device
from tokenloom.bench.prompts import long_prompts, prompt_ids
from tokenloom.bench.subjects import Chooser, Logits, compile_model
from tokenloom.compiler.options import TargetDevice
from tokenloom.models.registry import Model
from tokenloom.runtime.engine import Engine, EngineOptions, StepReport
from tokenloom.runtime.executable import Launch, ModelExecutable
from tokenloom.runtime.request import Completion, ContextHandle, Request
from tokenloom.runtime.sampling import SamplingParams

NUM_TOKENS = 64
Ids = Sequence[int]
OpenEngine = Callable[..., AbstractContextManager[Engine]]
Compile = Callable[[Model, TargetDevice], ModelExecutable]


@pytest.fixture(scope="module")
def compiled() -> Compile:
    """Return a function that compiles a model once a device."""
    known: dict[tuple[str, str], ModelExecutable] = {}

    def compile_once(model: Model, device: TargetDevice) -> ModelExecutable:
        key = (model.name, device)
        if key not in known:
            known[key] = compile_model(model.name, device, "exact")
        return known[key]

    return compile_once


@pytest.fixture(scope="module")
def open_engine(compiled: Compile) -> OpenEngine:
    @contextmanager
    def open_one(model: Model, device: TargetDevice, **options: object) -> Generator[Engine]:
        executable = compiled(model, device)
        devices = {name: open_device(name, "exact") for name in executable.devices}
        chosen = EngineOptions(**{"num_pages": 256, **options})  # pyright: ignore[reportArgumentType]
        engine = Engine(model, executable, devices, chosen)
        yield engine
        engine.close()
        for opened in devices.values():
            opened.close()

    return open_one


@pytest.fixture(scope="module")
def prompts(smollm2: Model) -> list[list[int]]:
    return prompt_ids(smollm2)


@pytest.fixture(scope="module")
def answers(
    smollm2: Model, open_engine: OpenEngine, prompts: list[list[int]]
) -> list[tuple[int, ...]]:
    """What the engine generates greedily on host, kept from ending early."""
    choosers = [Chooser(smollm2.config.eos_ids) for _ in prompts]
    with open_engine(smollm2, "host", max_batch=16) as engine:
        done = complete(engine, prompts, choosers, SamplingParams(NUM_TOKENS))
    return [completion.output_ids for completion in done]


@pytest.fixture(scope="module")
def oracle_logits(
    smollm2_oracle: Any, prompts: list[list[int]], answers: list[tuple[int, ...]]
) -> list[Logits]:
    """The logits of transformers for each token of the answers, given what is before it."""
    texts = [[*prompt, *answer[:-1]] for prompt, answer in zip(prompts, answers, strict=True)]
    logits: list[Logits] = []
    for start in range(0, len(texts), 5):
        group = texts[start : start + 5]
        width = max(map(len, group))
        # Attention is causal: padding behind a text changes nothing in it.
        ids = torch.tensor([text + [0] * (width - len(text)) for text in group])
        with torch.no_grad():
            rows = smollm2_oracle(ids).logits.numpy()
        for row, text in zip(rows, group, strict=True):
            logits.append(row[len(text) - NUM_TOKENS : len(text)])
    return logits


def complete(
    engine: Engine,
    prompts: Sequence[Ids],
    choosers: Sequence[Chooser] | None,
    params: SamplingParams,
    contexts: Sequence[ContextHandle] | None = None,
) -> list[Completion]:
    """Extend the contexts, or an empty one, by the prompts side by side."""
    contexts = contexts or [engine.root()] * len(prompts)
    futures = [
        engine.submit(Request(context, tuple(prompt), params, choosers[i] if choosers else None))
        for i, (context, prompt) in enumerate(zip(contexts, prompts, strict=True))
    ]
    return [future.result(timeout=120) for future in futures]


@pytest.mark.model
def test_greedy_tokens_on_host_equal_transformers(
    smollm2: Model, answers: list[tuple[int, ...]], oracle_logits: list[Logits]
) -> None:
    assert [len(answer) for answer in answers] == [NUM_TOKENS] * 20
    # Each token is the oracle's choice behind the tokens before it: so is the whole answer.
    for answer, logits in zip(answers, oracle_logits, strict=True):
        allowed = logits.copy()
        allowed[:, list(smollm2.config.eos_ids)] = -np.inf
        assert allowed.argmax(axis=1).tolist() == list(answer)


@pytest.mark.model
def test_decode_attention_on_pim_agrees_with_transformers(
    smollm2: Model,
    compiled: Compile,
    open_engine: OpenEngine,
    prompts: list[list[int]],
    answers: list[tuple[int, ...]],
    oracle_logits: list[Logits],
) -> None:
    attention = [
        (step.device, step.rows)
        for step in compiled(smollm2, "pim").steps
        if isinstance(step, Launch) and step.kernel.op == "attention_decode"
    ]
    assert attention == [("pim", "decode")] * smollm2.config.num_layers
    reports: list[StepReport] = []
    choosers = [Chooser((), given, keep=True) for given in answers]
    with open_engine(smollm2, "pim", max_batch=16, on_step=reports.append) as engine:
        complete(engine, prompts, choosers, SamplingParams(NUM_TOKENS))
    assert sum(report.num_decode_rows for report in reports) == 20 * (NUM_TOKENS - 1)
    same_top: list[NDArray[np.bool]] = []
    for chooser, wanted in zip(choosers, oracle_logits, strict=True):
        found = np.stack(chooser.logits)
        error = np.abs(found - wanted).max(axis=1) / np.abs(wanted).max(axis=1)
        assert error.max() <= 2e-2
        same_top.append(found.argmax(axis=1) == wanted.argmax(axis=1))
    assert np.concatenate(same_top).size == 20 * NUM_TOKENS
    assert np.concatenate(same_top).mean() >= 0.99


def converse(model: Model, engine: Engine, prompts: Sequence[Ids]) -> tuple[list[Any], list[Any]]:
    """Let each prompt be answered twice, the second time as a turn behind the first.

    Return all tokens and all logits, by turn and prompt.
    """
    tokens: list[Any] = []
    logits: list[Any] = []
    contexts: list[ContextHandle] | None = None
    for turn in range(2):
        choosers = [Chooser(model.config.eos_ids, keep=True) for _ in prompts]
        added = prompts if turn == 0 else [prompt[:5] for prompt in prompts]
        done = complete(engine, added, choosers, SamplingParams(5), contexts)
        contexts = [completion.context for completion in done]
        tokens += [completion.output_ids for completion in done]
        logits += [np.stack(chooser.logits) for chooser in choosers]
    return tokens, logits


def sharing_prompts(model: Model) -> list[list[int]]:
    """Return a prompt longer than the largest chunk, two that begin like it, and another."""
    long, other = long_prompts(model, 2, 260)
    return [long, *(long[:48] + long[60 * i : 60 * i + 9 * i] for i in (1, 2)), other[:21]]


PLAIN = {"max_batch": 1, "chunk_tokens": 256, "prefix_reuse": False}
# Each batch size, chunk and kind of reuse; the tiny model takes every combination of them.
COVERING = [(16, 1, True), (1, 7, True), (16, 64, False), (1, 64, True), (16, 256, True)]


def assert_equal_however_batched(
    model: Model,
    open_engine: OpenEngine,
    device: TargetDevice,
    combinations: Sequence[tuple[int, int, bool]],
) -> None:
    prompts = sharing_prompts(model)
    with open_engine(model, device, **PLAIN) as engine:
        tokens, logits = converse(model, engine, prompts)
    assert len(logits) == 8
    for max_batch, chunk_tokens, reuse in combinations:
        case = {"max_batch": max_batch, "chunk_tokens": chunk_tokens, "prefix_reuse": reuse}
        with open_engine(model, device, **case) as engine:
            found, found_logits = converse(model, engine, prompts)
        assert found == tokens, case
        if device == "host":
            for row, other in zip(logits, found_logits, strict=True):
                assert np.array_equal(row, other), case


@pytest.mark.model
def test_logits_on_host_are_bit_equal_however_they_are_batched(
    smollm2: Model, open_engine: OpenEngine
) -> None:
    assert_equal_however_batched(smollm2, open_engine, "host", COVERING)


@pytest.mark.model
def test_tokens_on_pim_are_equal_however_they_are_batched(
    smollm2: Model, open_engine: OpenEngine
) -> None:
    assert_equal_however_batched(smollm2, open_engine, "pim", [(16, 7, True)])


@pytest.mark.parametrize("device", ["host", "pim"])
def test_the_tiny_model_is_equal_in_every_combination(
    tiny: Model, open_engine: OpenEngine, device: TargetDevice
) -> None:
    combinations = list(product((1, 16), (1, 7, 64, 256), (False, True)))
    assert_equal_however_batched(tiny, open_engine, device, combinations)


@pytest.mark.model
def test_sampled_tokens_depend_on_the_seed_and_not_on_the_batch(
    smollm2: Model, open_engine: OpenEngine, prompts: list[list[int]]
) -> None:
    def sampled(engine: Engine, seed: int) -> list[tuple[int, ...]]:
        params = SamplingParams(16, temperature=0.9, top_p=0.95, seed=seed)
        done = complete(engine, prompts[:6], None, params)
        return [completion.output_ids for completion in done]

    with open_engine(smollm2, "host", max_batch=16) as engine:
        first, again, other = sampled(engine, 1), sampled(engine, 1), sampled(engine, 2)
    with open_engine(smollm2, "host", max_batch=1, prefix_reuse=False) as engine:
        alone = sampled(engine, 1)
    assert first == again == alone
    assert all(a != b for a, b in zip(first, other, strict=True))
