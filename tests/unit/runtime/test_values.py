from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime import values
from tokenloom.runtime.errors import RunError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ("a\n<|im_end|>", ["a\n<|im_end|>"]),
        (None, [""]),
        (True, ["true"]),
        (False, ["false"]),
        (-3, ["-3"]),
        (1.0, ["1.0"]),
        (0.1, ["0.1"]),
        (1e300, ["1e+300"]),
        ([], []),
        (["a"], ["a"]),
        (["a", None, 2], ["a", "\n", "", "\n", "2"]),
        ([["a", "b"], ["c"]], ["a", "\n", "b", "\n", "c"]),
        ({"why": "höher", "n": None, "b": [True, None]}, ['{"why":"höher","b":[true,null]}']),
        ([{"a": {"b": None}}], ['{"a":{}}']),
    ],
)
def test_a_value_prints_as_the_language_says(value: Any, printed: list[str]) -> None:
    assert values.segments(value) == printed
    assert values.text_of(value) == "".join(printed)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_print_in_their_shortest_form_that_reads_back(value: float) -> None:
    text = values.text_of(value)
    assert float(text) == value
    assert math.copysign(1, float(text)) == math.copysign(1, value)


@given(st.dictionaries(st.text(), VALUES))
def test_records_print_as_one_segment_of_json_without_absent_fields(
    record: dict[str, Any],
) -> None:
    (text,) = values.segments(record)
    assert json.loads(text) == values.plain(record)
    assert list(json.loads(text)) == [name for name, field in record.items() if field is not None]


@given(st.lists(SCALARS, min_size=1))
def test_each_element_of_a_list_is_a_segment(items: list[Any]) -> None:
    printed = values.segments(items)
    assert printed[::2] == [values.text_of(item) for item in items]
    assert set(printed[1::2]) <= {"\n"}


@given(st.lists(SCALARS), st.text())
def test_join_puts_the_separator_between(items: list[Any], separator: str) -> None:
    assert values.join(items, separator) == separator.join(map(values.text_of, items))


@pytest.mark.parametrize(
    ("name", "left", "right", "result"),
    [
        ("add", "a", "b", "ab"),
        ("add", [1], [2], [1, 2]),
        ("add", 1, 2.5, 3.5),
        ("sub", 1, 2, -1),
        ("mul", 3, 4, 12),
        ("div", 7, 2, 3.5),
        ("floordiv", -7, 2, -4),
        ("mod", -7, 2, 1),
        ("eq", [1, {"a": None}], [1, {"a": None}], True),
        ("ne", "a", "b", True),
        ("lt", "a", "b", True),
        ("ge", 2, 2, True),
        ("in", "b", "abc", True),
        ("in", 4, [1, 2], False),
    ],
)
def test_operators_are_those_of_python(name: str, left: Any, right: Any, result: Any) -> None:
    assert values.BINARY[name](left, right) == result


@pytest.mark.parametrize(
    ("name", "left", "right", "message"),
    [
        ("div", 1, 0, "1 is divided by zero"),
        ("mod", 1.0, 0.0, "1.0 is divided by zero"),
        ("add", 2**63 - 1, 1, "64-bit integer"),
        ("mul", 1e200, 1e200, "inf, not a finite number"),
        ("div", 10**400, 1, "not a finite number"),
    ],
)
def test_what_has_no_result_fails_the_run(name: str, left: Any, right: Any, message: str) -> None:
    with pytest.raises(RunError, match=message):
        values.BINARY[name](left, right)


def test_length_counts_code_points_or_elements() -> None:
    assert values.length("e\u0301😀") == 3
    assert values.length([None, None]) == 2


def test_index_counts_from_both_ends_and_fails_outside() -> None:
    assert values.index(["a", "b"], -1) == "b"
    for position in (2, -3):
        with pytest.raises(RunError, match=f"index {position} is out of range.*length 2"):
            values.index(["a", "b"], position)


def test_widening_makes_floats_and_completes_records() -> None:
    kind = {
        "kind": "record",
        "fields": [
            ["b", {"kind": "list", "item": {"kind": "float"}}],
            ["a", {"kind": "optional", "item": {"kind": "text"}}],
        ],
    }
    wide = values.widen({"b": [1, 2]}, kind)
    assert wide == {"b": [1.0, 2.0], "a": None}
    assert [type(item) for item in wide["b"]] == [float, float]
    assert values.UNARY["neg"](2) == -2
    assert values.UNARY["not"](False) is True
