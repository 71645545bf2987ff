"""`tokenloom pim`: the commands that ask the model of a memory stack that computes."""

from __future__ import annotations

import typer

from tokenloom.cli.pim_layout import layout

pim = typer.Typer(help="Ask the HBM-PIM model.", no_args_is_help=True)

pim.command("layout")(layout)
