"""From `.loom` text to flow IR."""
