from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tokenloom.models.answers import (
    AnswerError,
    answer_expression,
    is_free_text,
    parse_answer,
    shortest_answer,
    shortest_answer_tokens,
    spell,
)
from tokenloom.models.automaton import advance
from tokenloom.models.registry import resolve

VERDICT = {
    "kind": "record",
    "fields": [
        ["winner", {"kind": "enum", "values": ["for", "against", "tie"]}],
        ["why", {"kind": "text", "max": 4}],
        ["score", {"kind": "optional", "item": {"kind": "int", "min": -3, "max": 120}}],
    ],
}


def accepts(answer: dict[str, Any], text: str) -> bool:
    return advance(answer_expression(answer), text.encode()).nullable


@pytest.mark.parametrize(
    ("answer", "good", "bad"),
    [
        ({"kind": "int"}, ["0", "-1", "42", "9" * 18], ["", "-", "-0", "01", "9" * 19, "1.0"]),
        ({"kind": "int", "min": -3, "max": 12}, ["-3", "0", "9", "10", "12"], ["-4", "13", "20"]),
        ({"kind": "int", "min": 95, "max": 1203}, ["95", "100", "1203"], ["94", "1204", "9"]),
        ({"kind": "int", "max": -5}, ["-5", "-99"], ["-4", "0", "5"]),
        ({"kind": "float"}, ["0", "-1.50", "12.25"], ["1.", ".5", "1e5", "00.1"]),
        ({"kind": "bool"}, ["true", "false"], ["True", ""]),
        ({"kind": "enum", "values": ["for", "a|b"]}, ["for", "a|b"], ["fo", "a", '"for"']),
        ({"kind": "text", "max": 2}, ["", "\n", "é😀"], ["abc", "ééé"]),
        ({"kind": "text", "regex": "[a-c]+\\d{2}"}, ["a12", "cab00"], ["12", "a1", "a123"]),
        ({"kind": "list", "item": {"kind": "bool"}}, ["[]", "[true,false]"], ["[true,]", "[ ]"]),
        ({"kind": "optional", "item": {"kind": "bool"}}, ["null", "true"], ["", "none"]),
        (
            {"kind": "list", "item": {"kind": "text", "regex": '["\\n\\x01é]*'}},
            ['["\\"\\né"]', '["\\u0001"]'],
            ['["""]', '["\x01"]', '["\\u000a"]'],
        ),
        (
            VERDICT,
            ['{"winner":"for","why":"é\\n\\"","score":null}'],
            ['{"winner":"for","why":"abcde","score":1}', '{"winner":"no","why":"","score":1}'],
        ),
    ],
)
def test_the_language_of_a_type(answer: dict[str, Any], good: list[str], bad: list[str]):
    for text in good:
        assert accepts(answer, text), text
        parse_answer(answer, text)
    for text in bad:
        assert not accepts(answer, text), text
    assert accepts(answer, shortest_answer(answer))
    parse_answer(answer, shortest_answer(answer))


@pytest.mark.parametrize(("low", "high"), [(0, 0), (-12, 7), (8, 1011), (-105, -9), (99, 100)])
def test_integer_bounds_are_exact(low: int, high: int):
    answer = {"kind": "int", "min": low, "max": high}
    found = {n for n in range(-1200, 1200) if accepts(answer, str(n))}
    assert found == set(range(low, high + 1))


def test_values_of_answers():
    text = '{"winner":"tie","why":"a\\"b","score":null}'
    assert parse_answer(VERDICT, text) == {"winner": "tie", "why": 'a"b', "score": None}
    assert parse_answer(VERDICT, ' {"winner": "for", "why": ""}\n')["score"] is None
    assert parse_answer({"kind": "float"}, "3") == 3.0
    assert type(parse_answer({"kind": "float"}, "3")) is float
    assert parse_answer({"kind": "text"}, " as it is\n") == " as it is\n"
    assert parse_answer({"kind": "optional", "item": {"kind": "int"}}, "null") is None


@pytest.mark.parametrize(
    ("answer", "text", "message"),
    [
        ({"kind": "int"}, "true", "the answer must be an int, got true"),
        ({"kind": "int", "min": 1, "max": 3}, "4", "must be an int in 1..3, got 4"),
        ({"kind": "bool"}, "yes", 'the answer "yes" is not JSON'),
        ({"kind": "enum", "values": ["a", "b"]}, "c", 'must be one of "a", "b", got "c"'),
        ({"kind": "text", "max": 3}, "four", "may have 3 characters, has 4"),
        ({"kind": "text", "regex": "a+"}, "b", r'must match /a\+/, got "b"'),
        (VERDICT, '{"winner":"for"}', "the answer lacks 'why'"),
        (VERDICT, '{"winner":"for","why":"","x":1}', "has an unknown field 'x'"),
        (VERDICT, '{"winner":"x","why":""}', 'the answer.winner must be one of "for"'),
        ({"kind": "list", "item": {"kind": "int"}}, "[1,null]", r"the answer\[1\] must be an int"),
    ],
)
def test_what_is_no_answer_says_why(answer: dict[str, Any], text: str, message: str):
    with pytest.raises(AnswerError, match=message):
        parse_answer(answer, text)


def test_only_plain_text_is_free():
    assert is_free_text({"kind": "text"})
    assert is_free_text({"kind": "text", "secret": True})
    assert not is_free_text({"kind": "text", "max": 3})
    assert not is_free_text({"kind": "enum", "values": ["a"]})


def test_shortest_answers_count_in_tokens():
    tokenizer = resolve("tiny", Path(".")).tokenizer
    expected = {"winner": "for", "why": "", "score": 0}
    assert json.loads(shortest_answer(VERDICT)) == expected
    assert shortest_answer_tokens(VERDICT, tokenizer) == len(shortest_answer(VERDICT))
    assert shortest_answer_tokens({"kind": "text"}, tokenizer) == 1


def test_bytes_from_inside_a_character_are_spelled():
    tokenizer = resolve("tiny", Path(".")).tokenizer
    data = "😀 é".encode()[2:]
    assert b"".join(map(tokenizer.token_bytes, spell(data, tokenizer))) == data
