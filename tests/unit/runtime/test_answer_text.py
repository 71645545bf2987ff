from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.models.registry import Model
from tokenloom.runtime.answer_text import AnswerText


def feed(tiny: Model, data: bytes, stop: tuple[str, ...] = ()) -> tuple[AnswerText, list[str]]:
    answer = AnswerText(tiny.tokenizer, stop)
    pieces: list[str] = []
    for byte in data:
        pieces.append(answer.push(byte))
        if answer.stopped:
            break
    pieces.append(answer.finish())
    return answer, pieces


def test_characters_come_whole(tiny: Model):
    answer, pieces = feed(tiny, "aé😀".encode())
    assert pieces == ["a", "", "é", "", "", "", "😀", ""]
    assert answer.text == "aé😀"


def test_a_cut_character_prints_as_a_replacement(tiny: Model):
    answer, pieces = feed(tiny, "é".encode()[:1])
    assert pieces == ["", "\ufffd"]
    assert answer.text == tiny.tokenizer.decode("é".encode()[:1])


def test_what_may_become_a_stop_text_is_held_back(tiny: Model):
    answer, pieces = feed(tiny, b"abENxEND!", ("END",))
    assert pieces == ["", "", "a", "b", "E", "N", "x", "", ""]
    assert answer.text == "abENx"
    assert answer.stopped


def test_of_several_stop_texts_the_earliest_place_counts(tiny: Model):
    answer, _ = feed(tiny, b"one two", ("two", "e t"))
    assert answer.text == "on"


@pytest.mark.parametrize("stop", [(), ("ab",), ("aab", "b")])
@given(text=st.text("abé", max_size=12))
def test_the_pieces_make_the_text(tiny: Model, stop: tuple[str, ...], text: str):
    answer, pieces = feed(tiny, text.encode(), stop)
    places = [place for place in map(text.find, stop) if place >= 0]
    assert answer.text == "".join(pieces) == text[: min(places, default=len(text))]
