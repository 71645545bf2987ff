"""The shape of the GPU kernels' blocks, for those who write and those who launch them."""

from __future__ import annotations

THREADS = 128
"""Threads a block, in all kernels."""

TILE_ROWS = 8
"""Rows that one thread of `linear` keeps in registers, so that a weight is read once for them."""
