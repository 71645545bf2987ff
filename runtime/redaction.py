"""Keeps secret values out of reports, traces and messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

MASK = "•••"


class Redactor:
    """Knows the secret texts of a run, also as JSON writes them."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def learn(self, value: Any, kind: Mapping[str, Any]) -> None:
        """Remember what in a value is declared `secret`."""
        match kind["kind"], value:
            case "text", str() if kind.get("secret") and value:
                self._secrets.add(value)
                self._secrets.add(json.dumps(value, ensure_ascii=False)[1:-1])
            case "optional", _ if value is not None:
                self.learn(value, kind["item"])
            case "list", list():
                for item in cast("list[Any]", value):
                    self.learn(item, kind["item"])
            case "record", dict():
                for name, field in kind["fields"]:
                    self.learn(cast("dict[str, Any]", value).get(name), field)
            case _:
                pass

    def hides(self, text: str) -> bool:
        """Say whether a text contains a secret."""
        return any(secret in text for secret in self._secrets)

    def scrub(self, text: str) -> str:
        """Return the text with every secret in it masked, longest first."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, MASK)
        return text
