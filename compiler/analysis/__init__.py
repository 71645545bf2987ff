"""What passes ask of the IR; an analysis never changes it."""
