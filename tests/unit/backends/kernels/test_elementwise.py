from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenloom.kernel_spec import KernelSpec

Array = NDArray[Any]
RunOp = Callable[..., Array]


def test_embed_takes_rows_of_the_weight(run_op: RunOp, rng: np.random.Generator) -> None:
    weight = rng.standard_normal((50, 32), np.float32)
    tokens = np.array([49, 0, 7, 7], np.int32)
    spec = KernelSpec.of("embed", vocab=50, hidden=32)
    out = run_op(spec, tokens, weight, np.zeros((6, 32), np.float32), 4)
    assert (out[:4] == weight[tokens]).all()
    assert not out[4:].any()


def test_take_rows(run_op: RunOp, rng: np.random.Generator) -> None:
    x = rng.standard_normal((50, 32), np.float32)
    rows = np.array([3, 49, 3], np.int32)
    spec = KernelSpec.of("take_rows", hidden=32)
    assert (run_op(spec, x, rows, np.zeros((3, 32), np.float32), 3) == x[rows]).all()


@pytest.mark.parametrize("n", [3, 400])
def test_add(run_op: RunOp, rng: np.random.Generator, n: int) -> None:
    x, y = rng.standard_normal((2, 401, 576), np.float32)
    out = run_op(KernelSpec.of("add", hidden=576), x, y, n)
    assert (out[:n] == x[:n] + y[:n]).all()
    assert (out[n:] == x[n:]).all()


@pytest.mark.parametrize("n", [3, 100])
def test_silu_mul(run_op: RunOp, rng: np.random.Generator, n: int) -> None:
    gate_up = rng.standard_normal((n, 2 * 128), np.float32) * 4
    gate_up[0, :8] = [0, -0.0, 1e-20, -100, 100, -87.5, 88.5, 3e38]
    gate, up = gate_up[:, :128].astype(np.float64), gate_up[:, 128:]
    with np.errstate(over="ignore"):
        expected = gate / (1 + np.exp(-gate)) * up
    out = run_op(KernelSpec.of("silu_mul", ffn=128), gate_up, np.zeros((n, 128), np.float32), n)
    np.testing.assert_allclose(out, expected, rtol=2e-6, atol=1e-35)
