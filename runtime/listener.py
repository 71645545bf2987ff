"""What a run tells while it goes on. All calls come on the run's event loop, in order."""

from __future__ import annotations

from tokenloom.runtime.asks import AskRecord, AskStart
from tokenloom.runtime.tools import ToolCall


class Listener:
    """Hears nothing; override what is of interest. A method must return soon."""

    def stage(self, text: str) -> None:
        """Hear what goes on before the first ask, a line each; may come from another thread."""

    def ask_started(self, ask: AskStart) -> None:
        """Hear that an ask was handed to the engine."""

    def ask_text(self, ask: AskStart, text: str) -> None:
        """Hear more of an answer: `text` is what is new, masked where a secret may be in it."""

    def ask_done(self, ask: AskStart, record: AskRecord) -> None:
        """Hear that an answer is complete."""

    def tool_started(self, call: ToolCall) -> None:
        """Hear that a tool was called."""

    def tool_finished(self, call: ToolCall) -> None:
        """Hear that a tool call ended, well or not."""
