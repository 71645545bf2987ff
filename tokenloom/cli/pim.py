"""`tokenloom pim`: the commands that ask the model of a memory stack that computes."""

from __future__ import annotations

import typer

pim = typer.Typer(help="Ask the HBM-PIM model.", no_args_is_help=True)
