from __future__ import annotations

from pathlib import Path

import pytest

from tokenloom.compiler.diagnostics import CompileErrors
from tokenloom.compiler.frontend.check import check_file

FOLDER = Path(__file__).parent
CASES = sorted(FOLDER.glob("*.loom"))


def report(path: Path) -> str:
    """All that the front end says about a file."""
    try:
        checked = check_file(path)
    except CompileErrors as errors:
        return f"{errors}\n"
    return "\n\n".join([*map(str, checked.warnings), "no errors"]) + "\n"


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_message(
    case: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FOLDER)
    found = report(Path(case.name))
    expected = case.with_suffix(".expect")
    if request.config.getoption("--update-golden", default=False):
        expected.write_text(found, encoding="utf-8")
    assert expected.read_text(encoding="utf-8") == found


def test_every_expected_text_has_a_program() -> None:
    assert {path.stem for path in FOLDER.glob("*.expect")} == {path.stem for path in CASES}
    assert len(CASES) >= 40
