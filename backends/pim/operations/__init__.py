"""What a stack runs: schedules, layouts and calls of compiled kernels, and their search."""
