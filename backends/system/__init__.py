"""Whole systems of processors and memory stacks: what a generated token takes."""
