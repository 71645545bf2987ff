"""Collect `// RUN:` lines of `*.mlir` files and run them with the opt tool inside this process."""

# pyright: reportUnknownMemberType=false
# (pytest leaves the arguments of from_parent open)
from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from filecheck.error import CheckError
from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import Options
from filecheck.parser import Parser, pattern_for_opts

from tokenloom.compiler.opt import Opt


def pytest_collect_file(parent: pytest.Collector, file_path: Path) -> pytest.Collector | None:
    if file_path.suffix == ".mlir":
        return FileCheckFile.from_parent(parent, path=file_path)
    return None


class FileCheckFile(pytest.File):
    def collect(self) -> Iterator[pytest.Item]:
        lines = self.path.read_text("utf-8").splitlines()
        runs = [line.split("RUN:", 1)[1].strip() for line in lines if line.startswith("// RUN:")]
        if not runs:
            raise pytest.UsageError(f"{self.path} has no RUN line")
        for number, run in enumerate(runs):
            yield FileCheckItem.from_parent(self, name=f"RUN{number}", run=run)


class FileCheckItem(pytest.Item):
    def __init__(self, *, run: str, **kwargs: object):
        super().__init__(**kwargs)  # pyright: ignore (pytest hands its own arguments through)
        self.run = run
        self.output = ""

    def runtest(self) -> None:
        """Run the stages before the last, each on what the one before printed, then match."""
        *stages, check = [part.strip() for part in self.run.split(" | ")]
        for stage in stages:
            self.output = self._opt(shlex.split(stage.replace("%s", str(self.path)))[1:])
        words = shlex.split(check)
        prefix = words[words.index("--check-prefix") + 1] if "--check-prefix" in words else "CHECK"
        options = Options(match_filename=str(self.path), check_prefixes=[prefix])
        checks = Parser(options, StringIO(self.path.read_text("utf-8")), *pattern_for_opts(options))
        if Matcher(options, FInput("-", self.output), checks).run():
            raise FileCheckFailure(self.run, self.output)

    def _opt(self, args: list[str]) -> str:
        out = StringIO()
        with TemporaryDirectory() as folder, redirect_stdout(out):
            piped = Path(folder, "piped.mlir")
            piped.write_text(self.output, "utf-8")
            Opt(args=[str(piped) if arg == "-" else arg for arg in args]).run()
        return out.getvalue()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str:  # pyright: ignore
        if isinstance(excinfo.value, FileCheckFailure | CheckError):
            return f"{self.path}\nRUN: {self.run}\n{excinfo.value}\n--- output\n{self.output}"
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.parent.name}/{self.path.name}::{self.name}"


class FileCheckFailure(Exception):
    """The output does not hold what the CHECK lines ask for."""
