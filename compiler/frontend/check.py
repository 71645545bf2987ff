"""The checker: from a file to a `Checked` program, or to all the errors of it."""

from __future__ import annotations

from tokenloom.compiler.frontend.checked import Checked

__all__ = ["Checked"]
