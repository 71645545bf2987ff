"""Scheduling policies behind one contract, one a file."""
