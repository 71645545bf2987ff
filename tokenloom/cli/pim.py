"""`tokenloom pim`: the commands that ask the model of a memory stack that computes."""

from __future__ import annotations

import typer

from tokenloom.cli.pim_asking import attention, gemv
from tokenloom.cli.pim_layout import layout
from tokenloom.cli.pim_trace import trace

pim = typer.Typer(help="Ask the HBM-PIM model.", no_args_is_help=True)

pim.command("attention")(attention)
pim.command("gemv")(gemv)
pim.command("trace")(trace)
pim.command("layout")(layout)
