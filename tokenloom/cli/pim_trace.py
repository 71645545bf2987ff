"""`tokenloom pim trace`: commands of attention with their cycles, and whether they are allowed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenloom.cli.console import error_console
from tokenloom.cli.pim_options import (
    Dtype,
    DtypeName,
    HeadDim,
    Heads,
    KvHeads,
    Level,
    Machine,
    PowerCap,
    input_errors,
    stack_of,
)

if TYPE_CHECKING:
    from tokenloom.backends.pim.stack import PimStack
    from tokenloom.backends.pim.streams.commands import CommandStream

MOST_NAMED = 10
"""Violations that a message names; it counts the others."""


def trace(
    machine: Machine,
    length: Annotated[int | None, typer.Option(min=1, help="Tokens of each head.")] = None,
    heads: Heads = 1,
    head_dim: HeadDim = 128,
    kv_heads: KvHeads = None,
    dtype: Dtype = DtypeName.FP16,
    level: Level = None,
    power_cap: PowerCap = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write all commands as text here.")
    ] = None,
    perfetto: Annotated[Path | None, typer.Option(help="Write a Perfetto trace here.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Commands to print; 0 prints all.")] = 40,
    check: Annotated[
        Path | None,
        typer.Option(help="Check a timed stream in this file instead, at this level and cap."),
    ] = None,
) -> None:
    """Print the commands of attention on one stack in program order, each with its cycle."""
    from tokenloom.backends.pim.report import AttentionQuestion

    stack = stack_of(machine, level, power_cap)
    if check is not None:
        _check(check, stack)
        return
    if length is None:
        raise typer.BadParameter("give --length, the tokens of each head, or --check FILE")
    asked = AttentionQuestion(heads, kv_heads or heads, length, head_dim, dtype.element_bytes)
    with input_errors():
        stream = asked.timed(stack, machine).stream
    _write(stream, stack, output, perfetto)
    if output is None:
        for line in _excerpt(stream, limit):
            typer.echo(line)


def _write(
    stream: CommandStream, stack: PimStack, output: Path | None, perfetto: Path | None
) -> None:
    from tokenloom.backends.pim.streams.text import format_stream
    from tokenloom.models.cache import write_whole

    if output is not None:
        write_whole(output, format_stream(stream))
        error_console().print(f"{output}: {len(stream):,} commands")
    if perfetto is not None:
        import json

        from tokenloom.backends.pim.streams.trace import stream_trace

        write_whole(perfetto, json.dumps(stream_trace(stream, stack)))
        error_console().print(f"{perfetto}: open it in https://ui.perfetto.dev")


def _excerpt(stream: CommandStream, limit: int) -> Iterator[str]:
    """Yield the header and the first and last commands, at most `limit` of them."""
    from tokenloom.backends.pim.streams.text import stream_lines

    left_out = len(stream) - limit if limit else 0
    tail = limit // 2
    head = limit - tail
    for index, line in enumerate(stream_lines(stream), -1):  # the header is -1
        if left_out <= 0 or index < head or index >= len(stream) - tail:
            yield line
        elif index == head:
            yield f"# ... {left_out:,} commands left out; --limit 0 prints all"


def _check(file: Path, stack: PimStack) -> None:
    """Say that the file's stream keeps all constraints, or raise StreamError with what does not."""
    from tokenloom.backends.pim.errors import StreamError
    from tokenloom.backends.pim.streams.text import parse_stream
    from tokenloom.backends.pim.timing import checker

    try:
        stream = parse_stream(file.read_text("utf-8"), str(file))
    except UnicodeDecodeError as error:
        raise StreamError(f"{file}: byte {error.start} is not UTF-8; is it a stream?") from None
    untimed = [command.op.name for command in stream if command.cycle < 0]
    if untimed:
        raise StreamError(
            f"{file}: {_count(len(untimed), 'command')} without a cycle, the first {untimed[0]};"
            " only a timed stream can be checked, as `pim trace -o` writes it"
        )
    violations = checker.check(stream, stack)
    if violations:
        lines = [f"{file}: {_count(len(violations), 'violation')}"]
        lines += [f"  {violation}" for violation in violations[:MOST_NAMED]]
        if len(violations) > MOST_NAMED:
            lines.append(f"  and {len(violations) - MOST_NAMED:,} more")
        raise StreamError("\n".join(lines))
    typer.echo(f"{file}: {_count(len(stream), 'command')}, no violation")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
