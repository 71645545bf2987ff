"""Prefill and decode tokens per second beside transformers, and what mode `fast` changes.

The default model; greedy; the same prompts and numbers of tokens for all. The repeats of all
subjects take turns, so that a slow minute of the machine meets all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

import numpy as np

from tokenloom.backends.kernels.cpu import this_cpu
from tokenloom.bench.prompts import long_prompts, prompt_ids
from tokenloom.bench.report import Report, ResultTable, Sample
from tokenloom.bench.subjects import Chooser, Logits, Subject, TokenLoom, Transformers
from tokenloom.models.registry import Model, fetch, resolve

MODEL = "smollm2-135m-instruct"
COLUMNS = ("engine", "tokens/s", "best", "spread", "to transformers float32", "to bfloat16")
BUSY_SPREAD = 0.5
"""(slowest - fastest) / median beyond which a table says nothing of the engines."""
PEERS = ("transformers float32", "transformers bfloat16")


@dataclass(frozen=True)
class Case:
    """One workload; with `num_tokens` 1 it measures prefill, otherwise decode."""

    title: str
    num_prompts: int
    prompt_tokens: int
    num_tokens: int

    def seconds_per_token(self, subject: Subject, prompts: Sequence[Sequence[int]]) -> float:
        """Run once; prefill counts the tokens of the prompts, decode those generated."""
        timing = subject.generate(prompts, self.num_tokens)
        if self.num_tokens == 1:
            return timing.total_s / (self.num_prompts * self.prompt_tokens)
        return timing.decode_s / timing.num_decoded


FULL = (
    Case("Prefill, 512 tokens", 1, 512, 1),
    Case("Prefill, 4 x 128 tokens", 4, 128, 1),
    Case("Decode, 1 stream, 64 tokens at a context of 200", 1, 200, 64),
    Case("Decode, 8 streams, 64 tokens at a context of 200", 8, 200, 64),
)
QUICK = (
    Case("Prefill, 128 tokens", 1, 128, 1),
    Case("Prefill, 4 x 32 tokens", 4, 32, 1),
    Case("Decode, 1 stream, 16 tokens at a context of 64", 1, 64, 16),
    Case("Decode, 8 streams, 16 tokens at a context of 64", 8, 64, 16),
)


def run(quick: bool = False) -> Report:
    """Measure all subjects on all cases, then compare tokens and logits with `host exact`."""
    load = os.getloadavg()[0]
    gguf = fetch(MODEL, print)
    model = resolve(MODEL, Path())
    report = Report("engine")
    ours = {
        "exact": TokenLoom(model, "host", "exact"),
        "fast": TokenLoom(model, "host", "fast"),
        "pim": TokenLoom(model, "pim", "exact"),
    }
    peers = _peers(gguf, report)
    subjects: list[Subject] = [*ours.values(), *peers]
    try:
        for case in QUICK if quick else FULL:
            report.tables.append(_speed(case, subjects, model, repeats=3))
        for peer in peers:
            peer.close()
        num_prompts, num_tokens = (6, 16) if quick else (20, 48)
        report.tables.append(_agreement(ours, model, num_prompts, num_tokens))
    finally:
        for subject in subjects:
            subject.close()
    report.machine["load average"] = f"{load:.2f} at the start, {os.getloadavg()[0]:.2f} at the end"
    return report


def _peers(gguf: Path, report: Report) -> list[Transformers]:
    if find_spec("transformers") is None:
        report.machine["transformers"] = "not installed: nothing to compare with"
        return []
    report.machine["transformers"] = version("transformers")
    num_threads = this_cpu().num_cores
    return [Transformers(gguf, dtype, num_threads) for dtype in ("float32", "bfloat16")]


def _speed(case: Case, subjects: Sequence[Subject], model: Model, repeats: int) -> ResultTable:
    prompts = long_prompts(model, case.num_prompts, case.prompt_tokens)
    times: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for subject in subjects:
        subject.generate(prompts, min(2, case.num_tokens))
    for _ in range(repeats):
        for subject in subjects:
            times[subject.name].append(case.seconds_per_token(subject, prompts))
    samples = {name: Sample(tuple(seconds)) for name, seconds in times.items()}
    table = ResultTable(case.title, COLUMNS)
    for name, sample in samples.items():
        ratios = [
            f"{samples[peer].median_s / sample.median_s:.2f}" if peer in samples else "-"
            for peer in PEERS
        ]
        rates = (f"{1 / sample.median_s:,.1f}", f"{1 / min(sample.times_s):,.1f}")
        table.rows.append((name, *rates, f"{sample.spread:.0%}", *ratios))
    if max(sample.spread for sample in samples.values()) > BUSY_SPREAD:
        table.remarks.append("Not to be quoted: such spread means that other work was running.")
    return table


def _agreement(
    ours: dict[str, TokenLoom], model: Model, num_prompts: int, num_tokens: int
) -> ResultTable:
    """Compare generations, and logits on the tokens that `host exact` generates."""
    prompts = prompt_ids(model)[-num_prompts:]
    eos_ids = model.config.eos_ids

    def complete(
        subject: TokenLoom, chooser: Callable[[int], Chooser]
    ) -> tuple[list[tuple[int, ...]], list[Chooser]]:
        choosers = [chooser(index) for index in range(num_prompts)]
        return subject.complete(prompts, choosers, num_tokens), choosers

    truth, exact = complete(ours["exact"], lambda _: Chooser(eos_ids, keep=True))
    table = ResultTable(
        f"Against host exact: {num_prompts} prompts x {num_tokens} tokens, greedy",
        ("engine", "equal runs", "same top-1", "mean KL, nats", "largest KL"),
    )
    for subject in (ours["fast"], ours["pim"]):
        outputs, _ = complete(subject, lambda _: Chooser(eos_ids))
        _, forced = complete(subject, lambda index: Chooser(eos_ids, truth[index], keep=True))
        divergences: list[float] = []
        same: list[bool] = []
        for reference, other in zip(exact, forced, strict=True):
            for p, q in zip(reference.logits, other.logits, strict=True):
                divergences.append(divergence(p, q))
                same.append(int(p.argmax()) == int(q.argmax()))
        equal = mean(a == b for a, b in zip(truth, outputs, strict=True))
        table.rows.append(
            (
                subject.name,
                f"{equal:.0%}",
                f"{mean(same):.2%}",
                f"{mean(divergences):.2e}",
                f"{max(divergences):.2e}",
            )
        )
    table.remarks.append("Top-1 and KL are teacher-forced on the tokens of host exact.")
    return table


def divergence(p: Logits, q: Logits) -> float:
    """Return the Kullback-Leibler divergence KL(softmax p || softmax q) in nats."""
    log_p, log_q = _log_softmax(p), _log_softmax(q)
    return float(np.sum(np.exp(log_p) * (log_p - log_q)))


def _log_softmax(logits: Logits) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    shifted = logits.astype(np.float64) - float(logits.max())
    return shifted - np.log(np.sum(np.exp(shifted)))
