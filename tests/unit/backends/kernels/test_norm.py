from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenloom.kernel_spec import KernelSpec

Array = NDArray[Any]
RunOp = Callable[..., Array]
EPS = 1e-5


def normed(x: Array, weight: Array) -> Array:
    x = x.astype(np.float64)
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPS) * weight


def test_rms_norm_equals_numpy_and_does_not_depend_on_the_batch(
    run_op: RunOp, rng: np.random.Generator
) -> None:
    spec = KernelSpec.of("rms_norm", hidden=576, attrs={"eps": EPS})
    x = rng.standard_normal((100, 576), np.float32)
    weight = rng.standard_normal(576, np.float32)
    out = run_op(spec, x, weight, np.zeros_like(x), 100)
    np.testing.assert_allclose(out, normed(x, weight), rtol=2e-6, atol=1e-6)
    alone = run_op(spec, x[93:94], weight, np.zeros((1, 576), np.float32), 1)
    assert alone.tobytes() == out[93:94].tobytes()


def test_head_norm_changes_query_and_key_heads_only(
    run_op: RunOp, rng: np.random.Generator
) -> None:
    spec = KernelSpec.of("head_norm", num_heads=4, num_kv_heads=2, head_dim=32, attrs={"eps": EPS})
    qkv = rng.standard_normal((9, 8 * 32), np.float32)
    q_norm, k_norm = rng.standard_normal((2, 32), np.float32)
    heads = run_op(spec, qkv, q_norm, k_norm, 8).reshape(9, 8, 32)
    given = qkv.reshape(9, 8, 32)
    np.testing.assert_allclose(heads[:8, :4], normed(given[:8, :4], q_norm), rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(heads[:8, 4:6], normed(given[:8, 4:6], k_norm), rtol=2e-6, atol=1e-6)
    assert (heads[:, 6:] == given[:, 6:]).all()
    assert (heads[8] == given[8]).all()
