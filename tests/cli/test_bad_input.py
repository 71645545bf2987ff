"""Whatever is wrong with what a command is given: one message with its place, and exit code 2."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]

ASK = """model m = "tiny"
agent A { model = m }
workflow go(topic: text = "x", n: int(0..9) = 1) -> text {
    return A.ask(\"\"\"Say {topic}{n}\"\"\", max = 4)
}
"""


def write(text: str, name: str = "x.loom") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def with_model(model: str) -> str:
    return ASK.replace('"tiny"', json.dumps(model))


SCRIPTS = {
    "empty text": ('model m = "tiny\n', ['x.loom:1:11: error: `"` is missing', "  model m = "]),
    "wrong type": (ASK.replace("max = 4", 'max = "4"'), ["x.loom:4:", 'max = "4"', "1 error"]),
    "several errors": (
        ASK.replace("model = m ", "model = mm ").replace("A.ask", "B.ask"),
        ["x.loom:2:19: error: ", "did you mean `m`?", "x.loom:4:12: error: ", "2 errors"],
    ),
    "unknown model": (
        with_model("tinny"),
        ["x.loom:1:1: error: unknown model 'tinny': did you mean 'tiny'?", 'model m = "tinny"'],
    ),
    "no file of a model": (
        with_model("no/such.gguf"),
        ["x.loom:1:1: error: model 'no/such.gguf' is neither a name nor a path"],
    ),
    "prompt over the context": (
        ASK.replace("max = 4", "max = 2040"),
        ["x.loom:4:12: error: this prompt can exceed the model's context", "2048", "help: lower"],
    ),
    "no function of a tool": (
        'tool f(q: text) -> text { impl = "here:absent" }\n' + ASK,
        ["x.loom:1:27: error: `here` has no `absent`"],
    ),
}


@pytest.mark.parametrize("case", SCRIPTS)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_wrong_script_has_place_line_and_caret(run: Run, case: str, command: str) -> None:
    text, expected = SCRIPTS[case]
    write("", "here.py")
    code, out, err = run(command, write(text))
    assert (code, out) == (2, "")
    assert [part for part in expected if part not in err] == []
    assert any(set(line.strip()) <= set("^~") for line in err.splitlines() if line.strip())


def test_a_file_that_is_not_utf_8_is_told_at_its_byte(run: Run) -> None:
    Path("x.loom").write_bytes(b"# fine\nlet \xff\n")
    code, _, err = run("check", "x.loom")
    assert code == 2
    assert "x.loom:2:5: error: the file is not UTF-8" in err


@pytest.mark.parametrize("command", ["run", "check", "plan"])
def test_a_missing_script_is_named(run: Run, command: str) -> None:
    code, out, err = run(command, "nope.loom")
    assert (code, out) == (2, "")
    assert err.startswith("error: nope.loom cannot be read: no such file or directory\n")


def test_an_empty_script_has_nothing_to_run(run: Run) -> None:
    assert run("run", write("")) == (2, "", "error: the program has no workflow to run\n")


def test_check_goes_on_after_a_wrong_script(run: Run) -> None:
    code, out, err = run("check", "nope.loom", write(ASK, "fine.loom"))
    assert (code, out) == (2, "fine.loom: no errors\n")
    assert "nope.loom" in err


# Bundles


def test_a_folder_that_is_no_bundle(run: Run) -> None:
    Path("folder").mkdir()
    expected = "error: folder is no bundle: it has no manifest.json\n"
    assert run("run", "folder") == (2, "", expected)


@pytest.mark.parametrize("name", ["program.mlir", "plan.json", "manifest.json"])
def test_a_damaged_bundle_is_told(run: Run, name: str) -> None:
    assert run("compile", write(ASK), "-o", "b")[0] == 0
    file = Path("b", name)
    file.write_bytes(file.read_bytes()[:-20])
    code, out, err = run("run", "b")
    assert (code, out) == (2, "")
    assert err.startswith("error: b")
    assert name in err


def test_a_bundle_keeps_its_device(run: Run) -> None:
    assert run("compile", write(ASK), "-o", "b")[0] == 0
    code, _, err = run("run", "b", "--device", "pim")
    assert code == 2
    assert "b is a bundle, compiled for a device, mode and machine: compile it again" in err


# Model files


def test_a_model_that_was_not_fetched_says_how(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENLOOM_CACHE", str(Path("cache").resolve()))
    Path("cache").mkdir()
    write(with_model("smollm2-135m-instruct"))
    (Path("cache") / "grammar.tables").touch()  # the only file that compiling may leave there
    code, _, err = run("run", "x.loom")
    assert code == 2
    assert "x.loom:1:1: error: model 'smollm2-135m-instruct' is not on this machine" in err
    assert "`tokenloom models fetch smollm2-135m-instruct`" in err


GGUF_FILES = {
    "no GGUF": (b"garbage", "is not a GGUF file"),
    "empty": (b"", "bad.gguf"),
    "cut in its header": (b"GGUF\x03\0\0\0\x05\0\0\0", "bad.gguf"),
    "counts beyond its end": (b"GGUF\x03\0\0\0" + b"\xff" * 16 + b"\0" * 40, "bad.gguf"),
}


@pytest.mark.parametrize("case", GGUF_FILES)
def test_a_corrupt_gguf_file_is_named_with_the_place_of_its_model(run: Run, case: str) -> None:
    data, expected = GGUF_FILES[case]
    Path("bad.gguf").write_bytes(data)
    code, _, err = run("run", write(with_model("bad.gguf")))
    assert code == 2
    assert "x.loom:1:1: error: " in err
    assert expected in err


def test_a_damaged_file_of_the_registry_says_how_to_repair(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path("cache/models/smollm2-135m-instruct").resolve()
    folder.mkdir(parents=True)
    monkeypatch.setenv("TOKENLOOM_CACHE", str(Path("cache").resolve()))
    (Path("cache") / "grammar.tables").touch()
    (folder / "model.gguf").write_bytes(b"GGUF\x03\0\0\0")
    code, _, err = run("run", write(with_model("smollm2-135m-instruct")))
    assert code == 2
    assert "x.loom:1:1: error: " in err
    assert "model.gguf is damaged: its SHA-256 is" in err
    assert "`tokenloom models fetch smollm2-135m-instruct` puts it right" in err


@pytest.mark.model
def test_a_truncated_model_file_is_refused(run: Run, smollm2_path: Path) -> None:
    with smollm2_path.open("rb") as file:
        Path("bad.gguf").write_bytes(file.read(4_000_000))
    code, _, err = run("run", write(with_model("bad.gguf")))
    assert code == 2
    assert "x.loom:1:1: error: " in err
    assert "bad.gguf" in err


# Options and inputs

OPTIONS = {
    "unknown machine": (["--machine", "zz"], "zz: no such machine"),
    "no machine file": (["--machine", "zz.toml"], "zz.toml: cannot be read: No such file"),
    "broken machine file": (["--machine", "broken.toml"], "broken.toml: cannot be read: "),
    "incomplete machine": (["--machine", "empty.toml"], "empty.toml: "),
    "unknown workflow": (["--workflow", "no"], "there is no workflow 'no'; there are go"),
    "unknown input": (["-i", "topik=a"], "no input 'topik'; did you mean 'topic'?"),
    "no file of an input": (["-i", "topic=@nix"], "input 'topic': cannot read nix: No such file"),
    "input of another type": (["-i", "n=two"], "input 'n' must be an int in 0..9: \"two\" is not"),
    "input out of range": (["-i", "n=12"], "input 'n' must be an int in 0..9: it must be"),
    "input without =": (["-i", "topic"], "-i: 'topic' is not NAME=VALUE"),
    "input twice": (["-i", "n=1", "-i", "n=2"], "-i: 'n' is given twice"),
    "unknown option": (["--zz"], "No such option: --zz"),
    "unknown mode": (["--mode", "quick"], "'--mode': "),
    "batch of none": (["--batch", "0"], "'--batch': "),
    "no room for the trace": (["--trace", "file/t.json"], "file/t.json: cannot be written: "),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_a_wrong_option_is_named(run: Run, case: str) -> None:
    write("[a", "broken.toml")
    write("", "empty.toml")
    write("", "file")
    options, expected = OPTIONS[case]
    code, out, err = run("run", write(ASK), *options)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert expected in err


def test_a_missing_input_is_asked_for(run: Run) -> None:
    code, _, err = run("run", write(ASK.replace('text = "x"', "text")))
    assert (code, err) == (2, "error: input 'topic' is missing: give a text with -i topic=...\n")


def test_one_of_several_workflows_must_be_chosen(run: Run) -> None:
    code, _, err = run("run", write("workflow a() -> int { return 1 }\n\n"
                                    "workflow b() -> int { return 2 }\n"))  # fmt: skip
    assert (code, err) == (2, "error: which workflow? There are a, b: give one with --workflow\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["zz"],
        ["bench", "zz"],
        ["machines", "show", "zz"],
        ["models", "show", "zz"],
        ["models", "fetch", "zz"],
    ],
)
def test_an_unknown_name_is_repeated(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "zz" in err


@pytest.mark.parametrize("arguments", [[], ["models"], ["machines"]])
def test_a_command_that_is_left_out_gives_the_help(run: Run, arguments: list[str]) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert err.startswith("Usage: tokenloom")


# Places to write to


@pytest.mark.parametrize("target", ["folder", "file", "file/b"])
def test_compile_replaces_nothing_but_bundles(run: Run, target: str) -> None:
    Path("folder").mkdir()
    write("mine", "folder/notes.txt")
    write("mine", "file")
    code, out, err = run("compile", write(ASK), "-o", target)
    assert (code, out) == (2, "")
    assert target in err
    assert (Path("folder/notes.txt").read_text(), Path("file").read_text()) == ("mine", "mine")


@pytest.mark.parametrize(
    "arguments",
    [
        ["compile", "-o", "{}"],
        ["compile", "--to", "kv", "-o", "{}"],
        ["plan", "--html", "{}"],
        ["run", "--trace", "{}"],
    ],
)
def test_a_folder_that_cannot_be_written_is_named(run: Run, arguments: list[str]) -> None:
    where = "/proc/tokenloom"  # read-only to root as well
    code, _, err = run(*[word.format(where) for word in arguments], write(ASK))
    assert code == 2
    assert err.startswith("error: ")
    assert where in err


def test_an_interrupt_while_a_bundle_is_written_leaves_the_old_one(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("compile", write(ASK), "-o", "b")[0] == 0
    old = {path: path.read_bytes() for path in Path("b").iterdir()}
    write(ASK.replace("Say", "Shout"))
    written: list[Path] = []

    def interrupted(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt
        with path.open("wb") as file:
            return file.write(data)

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    code, _, err = run("compile", "x.loom", "-o", "b")
    assert len(written) == 2
    assert (code, err) == (1, "Interrupted. Nothing was left running or half-written.\n")
    assert {path: path.read_bytes() for path in Path("b").iterdir()} == old


# What is only told


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU")
def test_without_a_gpu_cuda_becomes_host_in_one_line(run: Run) -> None:
    code, out, err = run("run", write(ASK), "--device", "cuda", "--json")
    assert code == 0
    assert json.loads(out)["asks"]
    assert err.count("\n") == 1
    assert "running on host instead" in err
