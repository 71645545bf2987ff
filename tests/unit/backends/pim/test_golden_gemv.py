from __future__ import annotations

import numpy as np
import pytest

from tokenloom.bench.golden_gemv import SHA256, accumulate, checksum, golden_gemv


@pytest.mark.parametrize("field", SHA256)
def test_the_vectors_have_the_checksums_taken_from_the_simulator(field: str) -> None:
    assert checksum(getattr(golden_gemv(), field)) == SHA256[field]


def test_rounding_once_gives_other_lanes() -> None:
    golden = golden_gemv()
    fused = accumulate(golden.weights, golden.inputs, fused=True)
    assert 0.29 < np.mean(fused == golden.lanes) < 0.31
