from __future__ import annotations

from pathlib import Path

import pytest
from xdsl.dialects.builtin import ArrayAttr, FusedLoc, NoneAttr, UnknownLoc

from tokenloom.compiler.diagnostics import (
    CompileError,
    CompileErrors,
    Diagnostic,
    Note,
    file_location,
    remember_source,
    suggest,
    unsupported,
)
from tokenloom.compiler.frontend.syntax import NoneLiteral, Span

SPAN = Span("a.loom", 2, 3, 2, 6)


@pytest.fixture(autouse=True)
def source() -> None:
    remember_source("a.loom", "first\n\tx日本 = e\u0301z\nthird")


def test_the_caret_stands_under_wide_tabbed_and_combined_text() -> None:
    assert str(CompileError("m", Span("a.loom", 2, 3, 2, 5))) == (
        "a.loom:2:3: error: m\n  \tx日本 = e\u0301z\n  \t ^~~~"
    )
    assert str(CompileError("m", Span("a.loom", 2, 10, 2, 11))).endswith("\n  \t         ^")


def test_a_span_of_more_lines_is_marked_on_its_first() -> None:
    assert str(CompileError("m", Span("a.loom", 1, 3, 3, 2))).endswith("  first\n    ^~~")


def test_a_place_of_ir_is_shown_like_one_of_the_tree() -> None:
    location = file_location(SPAN)
    assert str(CompileError("m", location)).startswith("a.loom:2:3: error: m\n  \tx日本")
    assert str(CompileError("m", UnknownLoc())) == "error: m"
    fused = FusedLoc(ArrayAttr([UnknownLoc(), location]), NoneAttr())
    assert str(CompileError("m", fused)).startswith("a.loom:2:3: error: m")


def test_a_file_that_is_gone_still_has_a_place(tmp_path: Path) -> None:
    path = str(tmp_path / "gone.loom")
    assert str(CompileError("m", Span(path, 4, 2, 4, 3))) == f"{path}:4:2: error: m"


def test_errors_are_in_order_of_place_and_counted() -> None:
    late, early = CompileError("late", Span("a.loom", 3, 1, 3, 2)), CompileError("early", SPAN)
    errors = CompileErrors([late, early])
    assert [str(error) for error in errors.exceptions] == [str(early), str(late)]
    assert str(errors).endswith("\n\n2 errors")
    matching, rest = errors.split(lambda error: error is late)
    assert isinstance(matching, CompileErrors)
    assert isinstance(rest, CompileErrors)


def test_notes_and_warnings() -> None:
    shown = str(Diagnostic("m", SPAN, (Note("there", SPAN), *suggest("fro", ["for"])), "warning"))
    assert "a.loom:2:3: warning: m" in shown
    assert "a.loom:2:3: note: there" in shown
    assert shown.endswith("help: did you mean `for`?")
    assert suggest("zzz", ["for"]) == ()


def test_a_form_that_is_not_lowered_says_so_with_its_place() -> None:
    error = unsupported(NoneLiteral(SPAN), "`race`")
    assert str(error).startswith("a.loom:2:3: error: `race` is not supported yet")
