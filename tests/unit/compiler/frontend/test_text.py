from __future__ import annotations

from pathlib import Path

import pytest

from tokenloom.compiler.frontend import syntax as s
from tokenloom.compiler.frontend.parse import parse


def pieces(literal: str) -> list[str]:
    """The pieces of a text literal; an interpolated name in angle brackets."""
    module = parse(Path("x.loom"), f"const A = {literal}\n")
    decl = module.declarations[0]
    assert isinstance(decl, s.ConstDecl)
    assert isinstance(decl.value, s.Text)
    found: list[str] = []
    for piece in decl.value.pieces:
        if isinstance(piece, s.TextPiece):
            found.append(piece.text)
        else:
            assert isinstance(piece.value, s.Name)
            found.append(f"<{piece.value.name}>")
    return found


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        ('""', []),
        ('"{x}{y}"', ["<x>", "<y>"]),
        (r'"a\n\t\"\\\u{1F600}b"', ['a\n\t"\\😀b']),
        ('"{{{x}}}"', ["{", "<x>", "}"]),
        ('"""one"""', ["one"]),
        ('"""\n    one\n      two\n    """', ["one\n  two\n"]),
        ('"""first\n    one\n    two"""', ["first\none\ntwo"]),
        ('"""\n    one\n\n    two"""', ["one\n\ntwo"]),
        ('"""\n    {x}\n      b\n  """', ["<x>", "\n  b\n"]),
        ('"""a {x}\n    b\n  {y}"""', ["a ", "<x>", "\n  b\n", "<y>"]),
        ('"""\n    one\\n  two"""', ["one\n  two"]),
        ('"""\n\ta\n\t b"""', ["a\n b"]),
        ('"""\n\ta\n    b"""', ["\ta\n    b"]),
        ('"""say "hi" twice"""', ['say "hi" twice']),
    ],
)
def test_pieces(literal: str, expected: list[str]) -> None:
    assert pieces(literal) == expected


def test_line_ends_of_windows_and_a_byte_order_mark_mean_nothing() -> None:
    module = parse(Path("x.loom"), '\ufeffconst A = """\r\n  a\r\n  b"""\r\n')
    decl = module.declarations[0]
    assert isinstance(decl, s.ConstDecl)
    assert isinstance(decl.value, s.Text)
    assert decl.value.constant == "a\nb"
