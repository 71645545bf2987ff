"""Command streams as text: nothing is lost, and no text does worse than a message."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenloom.backends.pim.errors import StreamError
from tokenloom.backends.pim.streams.commands import FIELDS, RECORD, CommandStream, Op
from tokenloom.backends.pim.streams.text import format_stream, parse_stream

INT32 = st.one_of(st.integers(-1, 40), st.integers(-(2**31), 2**31 - 1))
RECORDS = st.tuples(
    st.sampled_from(list(Op)),
    *[INT32 for _ in FIELDS[1:-1]],
    st.one_of(st.integers(-1, 10**6), st.integers(-(2**63), 2**63 - 1)),
)


def stream_of(name: str, machine: str, rows: list[tuple[int, ...]]) -> CommandStream:
    return CommandStream(name, machine, np.array(rows, RECORD))


STREAMS = st.builds(stream_of, st.text(), st.text(), st.lists(RECORDS, max_size=12))
WORDS = st.one_of(
    st.sampled_from([op.name for op in Op]),
    st.sampled_from(["ch=*", "row=3", "row=*", "2048 B", "2 KiB", "B", "+start", "+9", "@7", "#"]),
    st.sampled_from(["\n", "\r\n", "=", "col=", "ch=x", "@", "+", "row=99999999999999999999"]),
    st.text(max_size=6),
)
LINES = st.lists(WORDS, max_size=30).map(" ".join)


@settings(deadline=None, max_examples=150)
@given(STREAMS)
@example(CommandStream('#"\\ \x85\u2028\ud800', "\n", np.zeros(0, RECORD)))
def test_a_stream_parses_back_from_its_text(stream: CommandStream) -> None:
    again = parse_stream(format_stream(stream))
    assert (again.name, again.machine) == (stream.name, stream.machine)
    assert again.records.tolist() == stream.records.tolist()


@settings(deadline=None, max_examples=300)
@given(st.one_of(LINES, LINES.map(lambda text: f'stream "a" machine="b"\n{text}'), st.text()))
def test_any_text_is_a_stream_or_an_error_with_its_place(text: str) -> None:
    try:
        stream = parse_stream(text, "x.pim")
    except StreamError as error:
        place = re.match(r"x\.pim:(\d+):(\d+): ", str(error))
        assert place is not None
        line, column = int(place[1]), int(place[2])
        lines = text.split("\n")
        assert 1 <= line <= len(lines)
        assert 1 <= column <= len(lines[line - 1]) + 1
    else:
        assert parse_stream(format_stream(stream)).records.tolist() == stream.records.tolist()


@settings(deadline=None, max_examples=100)
@given(STREAMS.filter(lambda stream: len(stream) > 0), st.data())
def test_leaving_out_a_word_never_reads_as_the_same_stream(
    stream: CommandStream, data: st.DataObject
) -> None:
    lines = format_stream(stream).splitlines()
    index = data.draw(st.integers(1, len(lines) - 1))
    words = lines[index].split()
    del words[data.draw(st.integers(0, len(words) - 1))]
    changed = "\n".join([*lines[:index], " ".join(words), *lines[index + 1 :]])
    with pytest.raises((StreamError, AssertionError)):
        assert parse_stream(changed).records.tolist() == stream.records.tolist()
