from __future__ import annotations

import pytest

from tokenloom.backends.pim.errors import StreamError
from tokenloom.backends.pim.streams.commands import ON, START, Command, CommandStream, Op
from tokenloom.backends.pim.streams.text import format_stream, parse_stream

STREAM = CommandStream.of(
    "scores of a head",
    "attacc-hbm3",
    [
        Command(Op.MODE, flags=ON),
        Command(Op.WR_GB, bank=2, src=5, address=80, size_bytes=512, cycle=29),
        Command(
            Op.MAC_TREE, channel=3, row=12, column=5, src=1, size_bytes=2048, flags=START, cycle=30
        ),
        Command(Op.MV_SB, channel=0, sid=0, bank_group=0, dst=1, cycle=0),
    ],
)
TEXT = """\
stream "scores of a head" machine="attacc-hbm3"
MODE      +on
WR_GB     bank=2 src=5 addr=80  512 B  @29
MAC_TREE  ch=3 row=12 col=5 src=1 +start  2048 B  @30
MV_SB     ch=0 sid=0 bg=0 dst=1  @0
"""


def test_a_stream_reads_like_this() -> None:
    assert format_stream(STREAM) == TEXT
    assert parse_stream(TEXT).records.tolist() == STREAM.records.tolist()


def test_comments_blank_lines_and_other_byte_units_are_read() -> None:
    text = '\n# made by hand\nstream "a" machine="b"  # here\r\n\n  WR ch=* row=0  2 KiB @1 # x\n'
    stream = parse_stream(text)
    assert (stream.name, stream.machine) == ("a", "b")
    assert list(stream) == [Command(Op.WR, size_bytes=2048, cycle=1)]


ERRORS = {
    "MAK ch=3": "x:3:1: no command 'MAK'; did you mean MAC?",
    "mac_tree": "x:3:1: no command 'mac_tree'; did you mean MAC_TREE?",
    "MAC rov=3": "x:3:5: a command has no 'rov'; did you mean row?",
    "MAC row=a": "x:3:9: 'a' is not a whole number",
    "MAC row=*": "x:3:9: '*' is not a whole number",
    "MAC row=1 row=1": "x:3:11: row is given twice",
    "MAC +strat": "x:3:5: no flag '+strat'; did you mean +start?",
    "MAC +start +start": "x:3:12: '+start' is given twice",
    "MAC 32": "x:3:7: a number of bytes has its unit after it, as in 2048 B; there are B, KiB, MiB,"
    " GiB",
    "MAC 32 kib": "x:3:8: a number of bytes has its unit after it, as in 2048 B; did you mean KiB?",
    "MAC 4 GiB": "x:3:5: 4 is not between -2 and 1",
    "MAC  @x": "x:3:6: 'x' is not a whole number",
    "MAC row": "x:3:5: cannot read 'row'; did you mean row=?",
}


@pytest.mark.parametrize("line", ERRORS)
def test_a_wrong_word_is_told_with_its_place_and_a_hint(line: str) -> None:
    with pytest.raises(StreamError) as caught:
        parse_stream(f'stream "a" machine="b"\nRD\n{line}\n', "x")
    assert str(caught.value) == ERRORS[line]


@pytest.mark.parametrize("text", ["", "RD\n", "stream a machine=b", 'stream "\\x" machine="b"'])
def test_a_stream_without_a_header_is_refused(text: str) -> None:
    with pytest.raises(StreamError, match=r"^x:1:1: no header; a stream starts with a line like"):
        parse_stream(text, "x")
