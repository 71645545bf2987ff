"""Command streams: what they are, their text and traces, what they compute, rows."""
