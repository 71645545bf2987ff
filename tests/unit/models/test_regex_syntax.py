from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.models.automaton import advance
from tokenloom.models.patterns import to_expression
from tokenloom.models.regex_syntax import RegexError, parse_regex

REGEXES = [
    "",
    "a|b|",
    "(ab|a)(bc|c)?",
    "(a|ab)*b",
    "[^a-c]b{2,3}",
    "^\\w+\\s?\\d*$",
    ".a.",
    "[\\]a-]+",
    "(?:a?){3}b",
    "\\x61[\\u00e9-\\u{1F600}]",
]


@pytest.mark.parametrize("regex", REGEXES)
@given(text=st.text(st.sampled_from("abcd1 -]é😀\n\ud7ff"), max_size=6))
def test_agrees_with_pythons_regular_expressions(regex: str, text: str):
    python = re.sub(r"\\u\{(\w+)\}", lambda m: chr(int(m[1], 16)), regex)
    expected = re.fullmatch(python, text, re.ASCII) is not None
    state = advance(to_expression(parse_regex(regex)), text.encode())
    assert state.nullable == expected


@pytest.mark.parametrize("regex", REGEXES)
def test_the_shortest_word_is_in_the_language(regex: str):
    state = to_expression(parse_regex(regex))
    while not state.nullable:
        assert state.shortest
        following = advance(state, state.shortest[:1])
        assert following.shortest == state.shortest[1:]
        state = following


@pytest.mark.parametrize(
    ("regex", "position", "problem"),
    [
        ("a(b", 3, "expected '\\)'"),
        ("ab)", 2, "unexpected '\\)'"),
        ("a**", 2, "one repetition after another"),
        ("a+?", 2, "lazy"),
        ("*a", 0, "nothing to stand for"),
        ("a{2,1}", 6, "empty range"),
        ("a{9999}", 6, "above 1000"),
        ("(?=a)", 1, "only plain groups"),
        ("[z-a]", 4, "wrong order"),
        ("[a", 2, "ends too early"),
        ("[]a]", 1, "an empty class"),
        ("\\q", 2, "not known"),
        ("\\1", 2, "not known"),
        ("\\ud800", 6, "not a character"),
        ("a$b", 2, "unexpected 'b'"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_position(regex: str, position: int, problem: str):
    with pytest.raises(RegexError, match=problem) as error:
        parse_regex(regex)
    assert error.value.position == position
