from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenloom.kernel_spec import KernelSpec

Array = NDArray[Any]
RunOp = Callable[..., Array]
MAX_ROWS = 40


def zeros(rows: int, width: int) -> Array:
    return np.zeros((rows, width), np.float32)


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 96), (160, 200), (7, 5), (576, 49)])
def test_linear_equals_numpy_for_all_tails(
    run_op: RunOp, rng: np.random.Generator, inputs: int, outputs: int
) -> None:
    spec = KernelSpec.of("linear", inputs=inputs, outputs=outputs)
    x = rng.standard_normal((MAX_ROWS, inputs), np.float32)
    weight = rng.standard_normal((outputs, inputs), np.float32)
    expected = x.astype(np.float64) @ weight.T.astype(np.float64)
    for n in (0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 39):
        out = run_op(spec, x, weight, zeros(MAX_ROWS, outputs), n)
        np.testing.assert_allclose(out[:n], expected[:n], rtol=1e-4, atol=1e-4)
        assert not out[n:].any()


def test_linear_bias_adds_the_bias(run_op: RunOp, rng: np.random.Generator) -> None:
    x = rng.standard_normal((5, 64), np.float32)
    weight = rng.standard_normal((72, 64), np.float32)
    bias = rng.standard_normal(72, np.float32)
    out = run_op(
        KernelSpec.of("linear_bias", inputs=64, outputs=72), x, weight, bias, zeros(5, 72), 5
    )
    np.testing.assert_allclose(out, x @ weight.T + bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 96), (576, 200)])
def test_a_row_has_the_same_bits_alone_and_in_any_batch(
    run_op: RunOp, rng: np.random.Generator, inputs: int, outputs: int
) -> None:
    spec = KernelSpec.of("linear", inputs=inputs, outputs=outputs)
    x = rng.standard_normal((MAX_ROWS, inputs), np.float32)
    weight = rng.standard_normal((outputs, inputs), np.float32)
    alone = np.concatenate(
        [run_op(spec, x[row : row + 1], weight, zeros(1, outputs), 1) for row in range(MAX_ROWS)]
    )
    for n in range(1, MAX_ROWS + 1):
        start = MAX_ROWS - n
        batch = run_op(spec, x[start:], weight, zeros(n, outputs), n)
        assert batch.tobytes() == alone[start:].tobytes()
