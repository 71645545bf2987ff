"""Kernels in TensorIR, and the only imports of tvm."""
