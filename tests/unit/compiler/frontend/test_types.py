from __future__ import annotations

import pytest

from tokenloom.compiler.frontend.types import (
    BOOL,
    FLOAT,
    INT,
    NEVER,
    NONE,
    TEXT,
    AgentType,
    EnumType,
    IntType,
    ListType,
    OptionalType,
    RecordType,
    TextType,
    Type,
    fits,
    join,
    to_answer_type,
    widen,
)

SIDE = EnumType(("for", "against"))
PAIR = RecordType((("a", INT), ("b", OptionalType(TEXT))))


@pytest.mark.parametrize(
    ("value", "target"),
    [
        (IntType(1, 3), IntType(0, 3)),
        (INT, FLOAT),
        (SIDE, TEXT),
        (EnumType(("for",)), SIDE),
        (TextType(max=3), TextType(max=4)),
        (NONE, OptionalType(INT)),
        (IntType(1, 1), OptionalType(INT)),
        (ListType(NEVER), ListType(INT)),
        (RecordType((("a", INT),)), PAIR),
        (AgentType(("A",)), AgentType(("A", "B"))),
        (TEXT, TextType(secret=True)),
    ],
)
def test_fits_one_way_only(value: Type, target: Type) -> None:
    assert fits(value, target)
    assert not fits(target, value) or NEVER in (value, getattr(value, "item", None))


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (IntType(0, 1), IntType(5, 9), IntType(0, 9)),
        (INT, FLOAT, FLOAT),
        (NONE, TEXT, OptionalType(TEXT)),
        (EnumType(("a",)), EnumType(("b",)), EnumType(("a", "b"))),
        (SIDE, TEXT, TEXT),
        (AgentType(("B",)), AgentType(("A",)), AgentType(("A", "B"))),
        (ListType(INT), ListType(FLOAT), ListType(FLOAT)),
        (TEXT, INT, None),
        (BOOL, INT, None),
    ],
)
def test_join_is_symmetric(left: Type, right: Type, expected: Type | None) -> None:
    assert join(left, right) == expected
    assert fits(expected, join(right, left) or TEXT) if expected else join(right, left) is None


def test_widen_forgets_what_only_the_first_value_says() -> None:
    assert widen(ListType(IntType(3, 3))) == ListType(INT)
    assert widen(SIDE) == TEXT


def test_answer_types_are_the_shared_form() -> None:
    record = RecordType(
        (("winner", SIDE), ("why", TextType(max=40)), ("n", OptionalType(IntType(0, 3))))
    )
    assert to_answer_type(record) == {
        "kind": "record",
        "fields": [
            ["winner", {"kind": "enum", "values": ["for", "against"]}],
            ["why", {"kind": "text", "max": 40}],
            ["n", {"kind": "optional", "item": {"kind": "int", "min": 0, "max": 3}}],
        ],
    }
    assert to_answer_type(TextType(True, regex="a+")) == {
        "kind": "text",
        "regex": "a+",
        "secret": True,
    }
    with pytest.raises(ValueError, match="cannot be an answer"):
        to_answer_type(AgentType(("A",)))
