from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenloom.backends.host import HostDevice
from tokenloom.backends.kernels.cpu import this_cpu
from tokenloom.kernel_spec import KernelSpec

Array = NDArray[Any]
RunOp = Callable[..., Array]
pytestmark = pytest.mark.skipif(
    "avx512_bf16" not in this_cpu().flags, reason="the CPU has no AVX512-BF16"
)


def rounded(x: Array) -> Array:
    bits = x.view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 96), (160, 200), (7, 5)])
def test_it_is_the_product_of_rounded_values_with_equal_bits_for_any_rows(
    run_op: RunOp, rng: np.random.Generator, inputs: int, outputs: int
) -> None:
    spec = KernelSpec.of("linear", inputs=inputs, outputs=outputs, mode="fast")
    x = rng.standard_normal((19, inputs), np.float32)
    weight = rng.standard_normal((outputs, inputs), np.float32)
    expected = rounded(x) @ rounded(weight).T
    whole = run_op(spec, x, weight, np.zeros((19, outputs), np.float32), 19)
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-4)
    for n in (1, 2, 3, 4, 7, 8, 9):
        part = run_op(spec, x[:n], weight, np.zeros((n, outputs), np.float32), n)
        assert part.tobytes() == whole[:n].tobytes()


def test_bias_is_added(run_op: RunOp, rng: np.random.Generator) -> None:
    spec = KernelSpec.of("linear_bias", inputs=64, outputs=72, mode="fast")
    x, weight = rng.standard_normal((3, 64), np.float32), rng.standard_normal((72, 64), np.float32)
    bias = rng.standard_normal(72, np.float32)
    out = run_op(spec, x, weight, bias, np.zeros((3, 72), np.float32), 3)
    expected = rounded(x) @ rounded(weight).T + bias
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_other_operations_share_the_library_of_exact(host: HostDevice) -> None:
    told: list[KernelSpec] = []
    host.load(KernelSpec.of("add", hidden=32))
    host.on_build = told.append
    host.load(KernelSpec.of("add", hidden=32, mode="fast"))
    host.on_build = None
    assert not told
