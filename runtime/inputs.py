"""Inputs of a workflow, as the command line or a caller gives them, to values of their types."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenloom.models.answers import AnswerError, AnswerType, describe, parse_answer
from tokenloom.runtime.errors import InputError
from tokenloom.runtime.values import Value


def parse_inputs(
    specs: Sequence[Mapping[str, Any]], given: Mapping[str, Any], folder: Path | None = None
) -> list[Value]:
    """Return the values in the order of `specs`, which are `{"name", "type", "default"?}`.

    A given text is a text as it is, or the JSON of any other type; `@path` reads a file, from
    `folder` on, and `@@` stands for one `@`. What is given as no text is taken as JSON data.
    Raises InputError for unknown and missing names and for what is no value of its type.
    """
    names = [str(spec["name"]) for spec in specs]
    for name in given:
        if name not in names:
            raise InputError(_unknown(name, names))
    return [_value(spec, given, folder or Path()) for spec in specs]


def _unknown(name: str, names: Sequence[str]) -> str:
    if not names:
        return f"there is no input '{name}': the workflow takes none"
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names)}"
    return f"there is no input '{name}'; {hint}"


def _value(spec: Mapping[str, Any], given: Mapping[str, Any], folder: Path) -> Value:
    name, kind = str(spec["name"]), spec["type"]
    if name in given:
        value = given[name]
        text = _read(name, value, folder) if isinstance(value, str) else _to_text(name, value, kind)
        return _parse(name, kind, text)
    if "default" in spec:
        default = spec["default"]
        return _parse(name, kind, default if isinstance(default, str) else json.dumps(default))
    if kind["kind"] == "optional":
        return None
    raise InputError(f"input '{name}' is missing: give {describe(kind)} with -i {name}=...")


def _read(name: str, value: str, folder: Path) -> str:
    if value.startswith("@@"):
        return value[1:]
    if not value.startswith("@"):
        return value
    path = folder / value[1:]
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"input '{name}': cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"input '{name}': {path} is not UTF-8 at byte {error.start}") from error


def _to_text(name: str, value: object, kind: AnswerType) -> str:
    if kind["kind"] in ("text", "enum"):
        raise InputError(f"input '{name}' must be {describe(kind)}, got {value!r}")
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"input '{name}' must be {describe(kind)}: {error}") from error


def _parse(name: str, kind: AnswerType, text: str) -> Value:
    try:
        return parse_answer(kind, text)
    except AnswerError as error:
        reason = str(error).replace('the answer "', '"', 1).replace("the answer", "it", 1)
        raise InputError(f"input '{name}' must be {describe(kind)}: {reason}") from error
