"""The commands, a line each; every command imports what it needs when it runs."""

from __future__ import annotations

import typer

from tokenloom.cli import compiling, estimating, running, showing
from tokenloom.cli.pim import pim

app = typer.Typer(
    name="tokenloom",
    help="Compile and run multi-agent LLM workflows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command("run")(running.run)
app.command("compile")(compiling.compile_script)
app.command("plan")(compiling.plan)
app.command("check")(compiling.check)
app.command("estimate")(estimating.estimate)
app.command("bench")(running.bench)
app.add_typer(showing.models, name="models")
app.add_typer(showing.machines, name="machines")
app.add_typer(pim, name="pim")


@app.command("version")
def version() -> None:
    """Print the version."""
    from tokenloom import __version__

    typer.echo(f"tokenloom {__version__}")
