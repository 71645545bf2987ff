"""Calls compiled PIM functions: those that compute on arrays, and those that write commands.

It knows no operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.device import Array
from tokenloom.backends.kernels.build import build, symbol_of
from tokenloom.backends.kernels.native import Call, NativeFunction, TensorView
from tokenloom.backends.pim.streams.commands import WORDS
from tokenloom.kernel_spec import KernelSpec

KEPT_FUNCTIONS = 256
"""Compiled functions that stay loaded."""


def bound(spec: KernelSpec, arrays: Sequence[Array], num_scalars: int = 0) -> Call:
    """Return the function of `spec` with its arrays bound, built if it is not there yet."""
    return Call(_function(spec), [TensorView(array) for array in arrays], num_scalars)


def compute(spec: KernelSpec, arrays: Sequence[Array], scalars: Sequence[int] = ()) -> None:
    """Run the function of `spec` on arrays, which it changes, and scalars."""
    bound(spec, arrays, len(scalars))(scalars)


def record(
    spec: KernelSpec, arrays: Sequence[Array], scalars: Sequence[int] = ()
) -> NDArray[np.int32]:
    """Return the commands [n, WORDS] that the function of `spec` writes; arrays stay as they are.

    It runs twice: how many commands there are is known after the first time.
    """
    count = np.zeros(1, np.int32)
    compute(spec, [*arrays, np.zeros((1, WORDS), np.int32), count], scalars)
    words = np.zeros((int(count[0]), WORDS), np.int32)
    count[0] = 0
    compute(spec, [*arrays, words, count], scalars)
    return words


@lru_cache(KEPT_FUNCTIONS)
def _function(spec: KernelSpec) -> NativeFunction:
    return NativeFunction(build([spec])[0], symbol_of(spec), holds_lock=False)
