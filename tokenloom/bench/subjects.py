"""What `bench engine` compares: TokenLoom's engine and transformers, behind one interface.

Both generate greedily and are kept from ending early, so that all produce the same number of
tokens. It knows nothing of tables.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
# (transformers and torch leave parts of their signatures open)
from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tokenloom import driver
from tokenloom.backends.registry import open_device
from tokenloom.compiler.options import CompileOptions, TargetDevice
from tokenloom.kernel_spec import Mode
from tokenloom.models.registry import Model
from tokenloom.runtime.engine import Engine, EngineOptions, StepReport
from tokenloom.runtime.executable import ModelExecutable
from tokenloom.runtime.program import decode
from tokenloom.runtime.request import Completion, Request
from tokenloom.runtime.sampling import SamplingParams

Prompts = Sequence[Sequence[int]]
Logits = NDArray[np.float32]

SCRIPT = """model m = "{model}"
agent Writer {{
    model = m
}}
workflow write(topic: text) -> text {{
    return Writer.ask(\"\"\"{{topic}}\"\"\", max = 64)
}}
"""


@dataclass(frozen=True)
class Timing:
    """How long a generation took, and the part of it in which all prompts only decoded."""

    total_s: float
    decode_s: float
    num_decoded: int


class Subject(Protocol):
    """Something that generates."""

    name: str

    def generate(self, prompts: Prompts, num_tokens: int) -> Timing:
        """Generate `num_tokens` after each of the prompts, computing these from their start."""
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


class Chooser:
    """Greedy without end-of-turn ids; with `given` tokens, exactly these. May keep the logits."""

    finished = False

    def __init__(self, eos_ids: Sequence[int], given: Sequence[int] = (), *, keep: bool = False):
        self._eos_ids = list(eos_ids)
        self._given = given
        self._keep = keep
        self.logits: list[Logits] = []

    def choose(self, logits: Logits, params: SamplingParams, step: int) -> int:
        """Return token number `step`."""
        if self._keep:
            self.logits.append(logits.copy())
        if self._given:
            return self._given[step]
        allowed = logits.copy()
        allowed[self._eos_ids] = -np.inf
        return int(allowed.argmax())


class TokenLoom:
    """The engine with the default model on one device in one mode."""

    def __init__(self, model: Model, device: TargetDevice, mode: Mode):
        self.name = f"tokenloom {device} {mode}"
        self._model = model
        self._reports: list[StepReport] = []
        self._num_runs = 0
        executable = compile_model(model.name, device, mode)
        self._devices = {name: open_device(name, mode) for name in executable.devices}
        options = EngineOptions(num_pages=512, on_step=self._reports.append)
        self._engine = Engine(model, executable, self._devices, options)

    def generate(self, prompts: Prompts, num_tokens: int) -> Timing:
        """Generate; no KV is found from an earlier call."""
        self._reports.clear()
        start = time.perf_counter()
        self.complete(prompts, [Chooser(self._model.config.eos_ids) for _ in prompts], num_tokens)
        total_s = time.perf_counter() - start
        steps = [
            report
            for report in self._reports
            if report.num_decode_rows == len(prompts) and not report.num_prefill_rows
        ]
        if not steps:
            return Timing(total_s, 0.0, 0)
        decode_s = (steps[-1].end_ns - steps[0].start_ns) / 1e9
        return Timing(total_s, decode_s, len(prompts) * len(steps))

    def complete(
        self, prompts: Prompts, choosers: Sequence[Chooser], num_tokens: int
    ) -> list[tuple[int, ...]]:
        """Return the ids generated after each prompt."""
        # A tenant of its own shares no page with earlier runs.
        self._num_runs += 1
        root = self._engine.root(tenant=str(self._num_runs))
        params = SamplingParams(max_tokens=num_tokens)
        futures: list[Future[Completion]] = [
            self._engine.submit(Request(root, tuple(prompt), params, chooser))
            for prompt, chooser in zip(prompts, choosers, strict=True)
        ]
        done = [future.result() for future in futures]
        for context in (root, *(completion.context for completion in done)):
            self._engine.release(context)
        return [completion.output_ids for completion in done]

    def close(self) -> None:
        """Close the engine and its devices."""
        self._engine.close()
        for device in self._devices.values():
            device.close()


def compile_model(name: str, device: TargetDevice, mode: Mode) -> ModelExecutable:
    """Compile a workflow of one ask; return its model's executable."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.loom"
        script.write_text(SCRIPT.format(model=name), encoding="utf-8")
        options = CompileOptions(base_dir=script.parent, device=device, mode=mode)
        module = driver.compile(script, options).module
    return next(iter(decode(module).executables.values()))


class Transformers:
    """transformers' `generate` with a KV cache, on the same GGUF file."""

    def __init__(self, gguf: Path, dtype: str, num_threads: int):
        """Raise ModuleNotFoundError where transformers is not installed."""
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(num_threads)
        self.name = f"transformers {dtype}"
        # From a folder of its own: beside the file lies our tokenizer.json.
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "model.gguf").symlink_to(gguf)
            self._model: Any = AutoModelForCausalLM.from_pretrained(
                folder, gguf_file="model.gguf", dtype=getattr(torch, dtype)
            ).eval()

    def generate(self, prompts: Prompts, num_tokens: int) -> Timing:
        """Generate for prompts of one length."""
        import torch

        ids = torch.tensor([list(prompt) for prompt in prompts])
        clock = _Clock()
        start = time.perf_counter()
        self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=num_tokens,
            min_new_tokens=num_tokens,
            do_sample=False,
            pad_token_id=0,
            streamer=clock,
        )
        total_s = time.perf_counter() - start
        times = clock.times_s[1:]  # the first call brings the prompts
        return Timing(total_s, times[-1] - times[0], len(prompts) * (len(times) - 1))

    def close(self) -> None:
        """Forget the weights."""
        self._model = None


class _Clock:
    """A streamer of transformers that notes when each token comes."""

    def __init__(self) -> None:
        self.times_s: list[float] = []

    def put(self, value: object) -> None:
        self.times_s.append(time.perf_counter())

    def end(self) -> None:
        pass
