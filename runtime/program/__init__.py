"""From IR to plain steps. With the reference interpreter the only place of the runtime with IR."""

from __future__ import annotations

from tokenloom.runtime.program.blocks import ProgramError
from tokenloom.runtime.program.module import decode, parse

__all__ = ["ProgramError", "decode", "parse"]
