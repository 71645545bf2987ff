"""What a person sees of a run: who is thinking, each answer as it comes, a closing summary."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tokenloom.runtime.listener import Listener

if TYPE_CHECKING:
    from tokenloom.runtime.asks import AskRecord, AskStart

COLORS = ("cyan", "magenta", "green", "yellow", "blue", "red")
TAIL_CHARACTERS = 60


class RunView(Listener):
    """Shows a run on a console. Its methods may be called from any thread.

    On a terminal the asks under way stand below with the end of their text; elsewhere only finished
    answers are printed; a quiet view prints no answers.
    """

    def __init__(self, console: Console, *, quiet: bool = False):
        self._console = console
        self._quiet = quiet
        self._lock = Lock()
        self._running: dict[int, tuple[AskStart, str]] = {}
        self._colors: dict[str, str] = {}
        self._stage = ""
        self._live = Live(console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> RunView:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(text, soft_wrap=True)

    def stage(self, text: str) -> None:
        """Show what goes on before the first ask: loading, compiling, building a kernel."""
        with self._lock:
            self._stage = text
            self._refresh()

    def ask_started(self, ask: AskStart) -> None:
        """Show an ask that begins."""
        with self._lock:
            self._stage = ""
            self._running[ask.id] = (ask, "")
            self._refresh()

    def ask_text(self, ask: AskStart, text: str) -> None:
        """Add a piece of the answer."""
        with self._lock:
            if ask.id in self._running:
                self._running[ask.id] = (ask, self._running[ask.id][1] + text)
                self._refresh()

    def ask_done(self, ask: AskStart, record: AskRecord) -> None:
        """Print the whole answer."""
        with self._lock:
            self._running.pop(ask.id, None)
            if self._quiet:
                self._refresh()
                return
            reused = record.num_reused_prefix + record.num_reused_linked
            head = Text(record.label or record.agent, style=f"bold {self._color(record.agent)}")
            head.append(
                f"  {record.place} · {record.num_output} tokens · "
                f"{reused} of {record.num_prompt} reused · {record.ms:,.0f} ms",
                style="dim",
            )
            self._console.print(head)
            self._console.print(Text(record.text.strip() or "(nothing)"), soft_wrap=True)
            self._refresh()

    def _color(self, agent: str) -> str:
        return self._colors.setdefault(agent, COLORS[len(self._colors) % len(COLORS)])

    def _refresh(self) -> None:
        if not self._live.is_started:
            return
        lines: list[Spinner] = []
        for ask, text in self._running.values():
            tail = " ".join(text.split())[-TAIL_CHARACTERS:]
            lines.append(Spinner("dots", Text(f"{ask.label}: {tail}", style="dim")))
        if not lines and self._stage:
            lines.append(Spinner("dots", Text(self._stage, style="dim")))
        self._live.update(Group(*lines))


def summary(stats: dict[str, object]) -> Table:
    """Return the closing table: tokens, reuse, speed, predicted and measured time."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column()
    for key, value in stats.items():
        table.add_row(key.replace("_", " "), _shown(value))
    return table


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
