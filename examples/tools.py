"""Tools of the examples: a search over a few local notes, and a syntax check."""

from __future__ import annotations

import re
from pathlib import Path

NOTES = Path(__file__).parent / "notes"


def search(query: str, limit: int) -> list[str]:
    """Return up to `limit` sentences from the notes, those that share most words with the query."""
    wanted = set(re.findall(r"\w+", query.lower()))
    sentences = [
        sentence.strip()
        for path in sorted(NOTES.glob("*.txt"))
        for sentence in re.split(r"(?<=\.)\s+", path.read_text(encoding="utf-8"))
        if sentence.strip()
    ]
    ranked = sorted(
        sentences, key=lambda s: len(wanted & set(re.findall(r"\w+", s.lower()))), reverse=True
    )
    return ranked[:limit]


def compiles(answer: str) -> dict[str, object]:
    """Say whether the Python in an answer compiles; a fenced block counts as the code."""
    fenced = re.search(r"```(?:python)?\n(.*?)(?:```|\Z)", answer, re.DOTALL)
    code = fenced.group(1) if fenced else answer
    try:
        compile(code, "answer.py", "exec")
    except (SyntaxError, ValueError) as error:
        return {"ok": False, "error": str(error)}
    return {"ok": True, "error": ""}
