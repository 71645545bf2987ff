"""How a run fails: each failure is one message with its place in the source."""

from __future__ import annotations


class RunError(Exception):
    """The program failed. `place` is `file:line:column`, empty where there is none."""

    def __init__(self, message: str, place: str = ""):
        super().__init__(message, place)
        self.message = message
        self.place = place

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class AssertionFailed(RunError):
    """An `assert` did not hold, or `fail` was reached."""


class ToolError(RunError):
    """A tool raised, exited with an error, took too long or gave what its type does not allow."""


class ContextOverflow(RunError):
    """A prompt and its answer do not fit into the model's context."""


class InputError(Exception):
    """What was given as input of a workflow is missing, unknown or no value of its type."""


class BundleError(Exception):
    """A bundle cannot be read, is damaged, or was made for something else."""
