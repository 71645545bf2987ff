"""TokenLoom: a compiler and runtime for multi-agent LLM workflows.

`compile`, `load` and `run` are imported when they are first used, so `import tokenloom` is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenloom.driver import compile, load, run

__all__ = ["__version__", "compile", "load", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in __all__:
        from tokenloom import driver

        return getattr(driver, name)
    raise AttributeError(f"module 'tokenloom' has no attribute {name!r}")
