from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tokenloom.runtime.errors import InputError
from tokenloom.runtime.inputs import parse_inputs

TEXT = {"kind": "text"}
SPECS: list[dict[str, Any]] = [
    {"name": "topic", "type": TEXT},
    {"name": "rounds", "type": {"kind": "int", "min": 1, "max": 8}, "default": 2},
    {"name": "files", "type": {"kind": "list", "item": TEXT}, "default": []},
    {"name": "extra", "type": {"kind": "optional", "item": {"kind": "float"}}},
]


def test_text_is_taken_as_it_is_and_the_rest_as_json() -> None:
    given = {"topic": ' "tea" ', "rounds": "3", "files": '["a"]', "extra": "1"}
    assert parse_inputs(SPECS, given) == [' "tea" ', 3, ["a"], 1.0]


def test_defaults_and_values_of_a_caller() -> None:
    assert parse_inputs(SPECS, {"topic": "t"}) == ["t", 2, [], None]
    assert parse_inputs(SPECS, {"topic": "t", "rounds": 4, "files": ("x",)}) == [
        "t", 4, ["x"], None
    ]  # fmt: skip


def test_a_file_is_read_and_an_at_sign_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("höher\n", encoding="utf-8")
    (tmp_path / "n.json").write_text("5")
    given = {"topic": "@t.txt", "rounds": "@n.json"}
    assert parse_inputs(SPECS, given, tmp_path)[:2] == ["höher\n", 5]
    assert parse_inputs(SPECS, {"topic": "@@ann"})[0] == "@ann"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"topic": "t", "round": "2"}, "there is no input 'round'; did you mean 'rounds'?"),
        ({"zzz": "2"}, "there is no input 'zzz'; there are: topic, rounds, files, extra"),
        ({}, "input 'topic' is missing: give a text with -i topic=..."),
        ({"topic": "t", "rounds": "9"}, "'rounds' must be an int in 1..8: it must be"),
        (
            {"topic": "t", "rounds": "two"},
            "'rounds' must be an int in 1..8: \"two\" is not JSON",
        ),
        ({"topic": "@no/such"}, "input 'topic': cannot read no/such: No such file"),
        ({"topic": 3}, "input 'topic' must be a text, got 3"),
        ({"topic": "t", "files": object()}, "input 'files' must be a list"),
    ],
)
def test_wrong_inputs_say_what_is_wrong(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_inputs(SPECS, given)
    assert message in str(caught.value)


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"a\xff")
    with pytest.raises(InputError, match="is not UTF-8 at byte 1"):
        parse_inputs(SPECS, {"topic": "@t"}, tmp_path)
