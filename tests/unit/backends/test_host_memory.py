from __future__ import annotations

import numpy as np
import pytest

from tokenloom.backends.host_memory import ALIGNMENT_BYTES, Slabs


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8"])
def test_arrays_of_a_slab_are_aligned_zeroed_and_apart(dtype: str) -> None:
    slabs = Slabs()
    shapes = [(3, 5), (1,), (0,), (700, 1000), (7, 11, 13), (5 << 20, 4), (30 << 20,)]
    arrays = [slabs.zeros(shape, dtype) for shape in shapes]
    for number, array in enumerate(arrays, 1):
        assert not array.any()
        array[...] = number
    for number, (array, shape) in enumerate(zip(arrays, shapes, strict=True), 1):
        assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
        assert array.ctypes.data % ALIGNMENT_BYTES == 0
        assert (array == number).all()


def test_small_arrays_lie_side_by_side() -> None:
    slabs = Slabs()
    first, second = (slabs.zeros((100,), "uint8") for _ in range(2))
    assert second.ctypes.data - first.ctypes.data == 2 * ALIGNMENT_BYTES
