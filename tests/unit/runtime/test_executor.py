from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tokenloom.models.registry import resolve
from tokenloom.runtime.asks import Answer, AskRecord, AskStart
from tokenloom.runtime.conversation import Conversation, Encoder
from tokenloom.runtime.errors import AssertionFailed, ContextOverflow, RunError, ToolError
from tokenloom.runtime.executor import Outcome, execute
from tokenloom.runtime.listener import Listener
from tokenloom.runtime.program import ProgramError, decode, parse
from tokenloom.runtime.redaction import Redactor
from tokenloom.runtime.sampling import SamplingParams, ask_seed
from tokenloom.runtime.steps import AskSettings
from tokenloom.runtime.tools import ToolRunner

AGENT = """
flow.model @m <"tiny">
flow.agent @A {
^bb0(%name : !flow.text):
  flow.yield
} {model = @m, params = ["name"], reuse = #flow<reuse exact>, importance = 5 : i64,
   temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
"""
TOOLS = """
flow.tool @slow {params = ["x"], types = [#flow.string<"{\\"kind\\": \\"text\\"}">],
  result = #flow.string<"{\\"kind\\": \\"text\\"}">, timeout_ns = 5000000000 : i64,
  retries = 0 : i64, impl = #flow.string<"t:slow">, directory = #flow.string<"DIRECTORY">}
flow.tool @log {params = ["x"], types = [#flow.string<"{\\"kind\\": \\"text\\"}">],
  result = #flow.string<"{\\"kind\\": \\"text\\"}">, timeout_ns = 5000000000 : i64,
  retries = 0 : i64, effect = true, impl = #flow.string<"t:log">,
  directory = #flow.string<"DIRECTORY">}
"""


def ask(context: str, agent: str, name: str, place: str = "x.loom:1:1", options: str = "") -> str:
    extra = f', options = #flow.string<"{options}">' if options else ""
    return f"""
  %{name}_t = exec.submit {context} for {agent} {{max_tokens = 4 : i64,
    answer_type = #flow.string<"{{\\"kind\\": \\"text\\"}}">, place = #flow.string<"{place}">,
    close_tokens = array<i32: 257>, priority = 0 : i64{extra}}}
    : !kv.context<dense>, !flow.agent<@A>
  %{name}, %{name}_next, %{name}_done = exec.await %{name}_t -> !flow.text, !kv.context<dense>
"""


def extend(context: str, part: str, name: str, kind: str = "!flow.text") -> str:
    return f"""
  %{name} = exec.extend {context} with ({part} : {kind})  dense
    : !kv.context<dense> -> !kv.context<dense>
"""


def workflow(body: str, arguments: str = "", declarations: str = "") -> str:
    return f"""{AGENT}{declarations}
exec.workflow @w {{
^bb0({arguments}):
  %root = exec.root @m : !kv.context<dense>
  %ann_name = flow.text <"Ann">
  %ann = flow.spawn @A (%ann_name : !flow.text) : !flow.agent<@A>
{body}
}} {{inputs = #flow.string<"[]">, result = #flow.string<"{{}}">}}
"""


@dataclass
class Scripted:
    """Answers with what `reply` says of the prompt, when `release` lets it."""

    reply: Callable[[str], str] = lambda prompt: f"<{prompt}>"
    delays: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])
    prompts: list[str] = field(default_factory=list[str])
    seeds: list[int] = field(default_factory=list[int])
    running: int = 0
    most_running: int = 0
    num_cancelled: int = 0

    def __post_init__(self) -> None:
        self.model = resolve("tiny", Path())

    def encoder(self, model: str) -> Encoder:
        return self.model.tokenizer

    def max_context(self, model: str) -> int:
        return 2048

    async def answer(
        self,
        conversation: Conversation,
        ask: AskSettings,
        sampling: SamplingParams,
        on_text: Callable[[str], None],
    ) -> Answer:
        prompt = self.model.tokenizer.decode(conversation.ids)
        self.prompts.append(prompt)
        self.seeds.append(sampling.seed)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(0)
            for text, event in self.delays.items():
                if text in prompt:
                    await event.wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        finally:
            self.running -= 1
        text = self.reply(prompt)
        on_text(text)
        ids = tuple(self.model.tokenizer.encode(text))
        return Answer(ids, text, conversation.close(ids + ask.close_tokens))


def run(
    text: str, *inputs: Any, answerer: Scripted | None = None, redactor: Redactor | None = None
) -> Outcome:
    program = decode(parse(text))

    async def work() -> Outcome:
        tools = ToolRunner(program.tools)
        try:
            outcome = await execute(
                program, "w", inputs, answerer or Scripted(), tools, redactor=redactor
            )
        finally:
            tools.close()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left
        return outcome

    return asyncio.run(work())


def test_one_ask_and_its_history() -> None:
    body = (
        extend("%root", "%ann_name", "c")
        + ask("%c", "%ann", "a")
        + extend("%a_next", "%a", "d")
        + ask("%d", "%ann", "b")
        + "  exec.return %b : !flow.text"
    )
    outcome = run(workflow(body))
    assert outcome.value == "<Ann<Ann><Ann>>"
    first, second = outcome.asks
    assert (first.agent, first.place, first.text) == ("A", "x.loom:1:1", "<Ann>")
    assert second.prompt_ids[: len(first.prompt_ids)] == first.prompt_ids
    assert second.prompt_ids[len(first.prompt_ids) :][: len(first.output_ids)] == first.output_ids
    assert 257 in second.prompt_ids
    assert first.label == "A Ann"


TEXTS = "%xs : !flow.list<!flow.text>"
MAP = """
  %list = flow.map %xs : !flow.list<!flow.text> -> (!flow.list<!flow.text>) {
  ^bb1(%x : !flow.text, %i : i64):
"""


def mapped(then: str = "  exec.return %list : !flow.list<!flow.text>") -> str:
    body = MAP + extend("%root", "%x", "c") + ask("%c", "%ann", "a")
    body += "    flow.yield %a : !flow.text\n  }\n" + then
    return workflow(body, TEXTS)


def test_a_map_runs_in_parallel_and_keeps_order() -> None:
    answerer = Scripted()
    outcome = run(mapped(), ["a", "b", "c"], answerer=answerer)
    assert outcome.value == ["<a>", "<b>", "<c>"]
    assert answerer.most_running == 3


def test_asks_are_in_program_order_whatever_finished_first() -> None:
    program = decode(parse(mapped()))

    async def work() -> tuple[list[str], Outcome]:
        answerer = Scripted()
        answerer.delays = {name: asyncio.Event() for name in "abc"}
        finished: list[str] = []

        class Order(Listener):
            def ask_done(self, ask: AskStart, record: AskRecord) -> None:
                finished.append(record.text)
                following = {"<c>": "b", "<b>": "a"}.get(record.text)
                if following:
                    answerer.delays[following].set()

        answerer.delays["c"].set()
        inputs = [["a", "b", "c"]]
        tools = ToolRunner({})
        return finished, await execute(program, "w", inputs, answerer, tools, listener=Order())

    finished, outcome = asyncio.run(work())
    assert finished == ["<c>", "<b>", "<a>"]
    assert [record.text for record in outcome.asks] == ["<a>", "<b>", "<c>"]


def test_there_is_no_barrier_between_maps() -> None:
    second = """
  %again = flow.map %list : !flow.list<!flow.text> -> (!flow.list<!flow.text>) {
  ^bb2(%y : !flow.text, %j : i64):
"""
    second += extend("%root", "%y", "c2") + ask("%c2", "%ann", "a2", "x.loom:2:2")
    second += "    flow.yield %a2 : !flow.text\n  }\n"
    second += "  exec.return %again : !flow.list<!flow.text>"
    program = decode(parse(mapped(second)))

    async def work() -> None:
        answerer = Scripted()
        answerer.delays = {"slow": asyncio.Event()}
        running = asyncio.create_task(
            execute(program, "w", [["slow", "fast"]], answerer, ToolRunner({}))
        )
        while "<fast>" not in answerer.prompts:
            await asyncio.sleep(0)
            assert not running.done()
        answerer.delays["slow"].set()
        assert (await running).value == ["<<slow>>", "<<fast>>"]

    asyncio.run(asyncio.wait_for(work(), 5))


def test_seeds_depend_on_place_and_iteration_and_ordinal() -> None:
    answerer = Scripted()
    run(mapped(), ["a", "b"], answerer=answerer)
    assert sorted(answerer.seeds) == sorted(ask_seed(0, "x.loom:1:1", [i], 0) for i in range(2))
    answerer = Scripted()
    body = ask("%c", "%ann", "a", options='{\\"ordinal\\": 2, \\"stop\\": [\\"x\\"]}')
    run(
        workflow(extend("%root", "%ann_name", "c") + body + "  exec.return %a : !flow.text"),
        answerer=answerer,
    )
    assert answerer.seeds == [ask_seed(0, "x.loom:1:1", [], 2)]


GATHER = """
  %bo_name = flow.text <"Bo">
  %bo = flow.spawn @A (%bo_name : !flow.text) : !flow.agent<@A>
  %members = flow.list (%ann, %bo : !flow.agent<@A>, !flow.agent<@A>)
    -> !flow.list<!flow.agent<@A>>
  %histories = flow.list (%root, %root : !kv.context<dense>, !kv.context<dense>)
    -> !flow.list<!kv.context<dense>>
  %out, %next = flow.gather %members after %histories for %n {place = #flow.string<"x.loom:5:5">}
    : !flow.list<!flow.agent<@A>>, !flow.list<!kv.context<dense>>
    -> !flow.list<!flow.text>, !flow.list<!kv.context<dense>> {
  ^bb1(%d : !flow.agent<@A>, %h : !kv.context<dense>, %others : !flow.list<!flow.text>, %r : i64):
    %who = flow.param %d "name" : !flow.agent<@A> -> !flow.text
    %c = exec.extend %h with (%who, %r, %others : !flow.text, i64, !flow.list<!flow.text>)
       dense : !kv.context<dense> -> !kv.context<dense>
"""


def gathered() -> str:
    body = GATHER + ask("%c", "%d", "a") + "    flow.yield %a, %a_next : !flow.text, "
    body += "!kv.context<dense>\n  }\n  exec.return %out : !flow.list<!flow.text>"
    return workflow(body, "%n : i64")


def test_gather_shows_everybody_the_round_before() -> None:
    answerer = Scripted(reply=lambda prompt: prompt[-1].upper() + str(len(prompt)))
    outcome = run(gathered(), 2, answerer=answerer)
    first, second = answerer.prompts[:2], answerer.prompts[2:]
    assert first == ["Ann1", "Bo1"]
    others = "14\n13"
    assert [p[-len(others) :] for p in second] == [others, others]
    assert second[0].startswith("Ann1" + "14" + "Ann2")
    assert [a.path for a in outcome.asks] == sorted(a.path for a in outcome.asks)
    assert answerer.seeds[:2] == [ask_seed(0, "x.loom:1:1", [1, i], 0) for i in range(2)]
    assert answerer.most_running == 2


def test_gather_of_no_rounds_is_an_empty_list() -> None:
    assert run(gathered(), 0).value == []


LOOP = """
  %zero = arith.constant 0 : i64
  %one = arith.constant 1 : i64
  %context, %last = scf.for %i = %zero to %n step %one
    iter_args(%h = %root, %s = %ann_name) -> (!kv.context<dense>, !flow.text) : i64 {
"""


def test_a_loop_carries_history_and_values() -> None:
    body = LOOP + extend("%h", "%s", "c") + ask("%c", "%ann", "a")
    body += "    exec.release %c after (%a_done) : !kv.context<dense>\n"
    body += "    scf.yield %a_next, %a : !kv.context<dense>, !flow.text\n  }\n"
    answerer = Scripted(reply=lambda prompt: str(len(prompt)))
    text = workflow(body + "  exec.return %last : !flow.text", "%n : i64")
    outcome = run(text, 3, answerer=answerer)
    assert answerer.prompts == ["Ann", "Ann33", "Ann3355"]
    assert outcome.value == "7"


def test_while_runs_until_the_condition_fails_and_if_chooses() -> None:
    body = (
        """
  %one = arith.constant 1 : i64
  %count, %said = scf.while (%k = %one, %t = %ann_name) : (i64, !flow.text) -> (i64, !flow.text) {
"""
        + extend("%root", "%t", "c")
        + ask("%c", "%ann", "a")
        + """
    %next = flow.binary add %k, %one : i64, i64 -> i64
    %size = flow.len %a : !flow.text
    %more = flow.binary lt %size, %n : i64, i64 -> i1
    scf.condition(%more) %next, %a : i64, !flow.text
  } do {
  ^bb2(%k2 : i64, %t2 : !flow.text):
    scf.yield %k2, %t2 : i64, !flow.text
  }
  %long = flow.len %said : !flow.text
  %four = arith.constant 9 : i64
  %is = flow.binary eq %long, %four : i64, i64 -> i1
  %result = scf.if %is -> (!flow.text) {
    %nine = flow.text <"nine">
    scf.yield %nine : !flow.text
  } else {
    scf.yield %said : !flow.text
  }
  %both = flow.concat (%result, %count : !flow.text, i64)
  exec.return %both : !flow.text"""
    )
    assert run(workflow(body, "%n : i64"), 8).value == "nine4"
    assert run(workflow(body, "%n : i64"), 6).value == "<<Ann>>3"


def test_a_failed_assertion_cancels_everything() -> None:
    check = """
  %size = flow.len %a : !flow.text
  %limit = arith.constant 100 : i64
  %ok = flow.binary gt %size, %limit : i64, i64 -> i1
  %message = flow.concat (%a, %ann_name : !flow.text, !flow.text)
  flow.assert %ok, %message {place = #flow.string<"x.loom:9:9">}
"""
    body = extend("%root", "%ann_name", "c") + ask("%c", "%ann", "a") + check
    body += '  %hang = flow.text <"hang">\n' + extend("%root", "%hang", "e")
    body += ask("%e", "%ann", "b") + "  exec.return %b : !flow.text"
    program = decode(parse(workflow(body)))

    async def work() -> Scripted:
        answerer = Scripted()
        answerer.delays = {"hang": asyncio.Event()}
        with pytest.raises(AssertionFailed) as caught:
            await execute(program, "w", [], answerer, ToolRunner({}))
        assert str(caught.value) == "x.loom:9:9: <Ann>Ann"
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return answerer

    assert asyncio.run(work()).num_cancelled == 1


def test_cancelling_a_run_leaves_no_task() -> None:
    program = decode(parse(mapped()))

    async def work() -> None:
        answerer = Scripted()
        answerer.delays = {"a": asyncio.Event()}
        running = asyncio.create_task(execute(program, "w", [["a"] * 5], answerer, ToolRunner({})))
        while answerer.running < 5:
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert answerer.num_cancelled == 5
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(work())


def test_computing_fails_with_the_place_in_the_source() -> None:
    body = """
  %five = arith.constant 5 : i64
  %x = flow.index %xs [%five] : !flow.list<!flow.text> -> !flow.text loc("dir/x.loom":7:3)
  exec.return %x : !flow.text"""
    message = r"^x.loom:7:3: index 5 is out of range: the list has length 1"
    with pytest.raises(RunError, match=message):
        run(workflow(body, TEXTS), ["a"])


def test_a_prompt_beyond_the_context_names_the_ask() -> None:
    with pytest.raises(ContextOverflow, match=r"x.loom:1:1: the prompt has 3000 tokens"):
        run(mapped(), ["y" * 3000])


def test_a_secret_masks_every_prompt_that_has_it() -> None:
    redactor = Redactor()
    redactor.learn("hush", {"kind": "text", "secret": True})
    outcome = run(mapped(), ["say hush", "open"], redactor=redactor)
    hidden, shown = outcome.asks
    assert (hidden.text, hidden.prompt_ids, hidden.output_ids) == ("•••", (), ())
    assert shown.text == "<open>"
    assert "hush" not in repr(hidden)


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    (tmp_path / "t.py").write_text(
        "import pathlib, time\n"
        "file = pathlib.Path(__file__).with_name('log')\n"
        "def slow(x):\n    time.sleep(1.5)\n    return x\n"
        "def log(x):\n    time.sleep(0.05)\n"
        "    if x == 'bad': raise ValueError('no')\n"
        "    with file.open('a') as f: f.write(x)\n    return x\n"
    )
    return tmp_path


def log(argument: str, name: str, token: str) -> str:
    return f"""
  %{name}, %{name}_t = flow.effect @log after {token} ({argument} : !flow.text)
    {{place = #flow.string<"x.loom:4:4">}} -> !flow.text
"""


def test_the_end_waits_for_effects_in_order_and_cancels_the_rest(tools: Path) -> None:
    body = """
  %token = flow.token
  %rest = flow.call @slow (%ann_name : !flow.text) {place = #flow.string<"x.loom:3:3">}
    -> !flow.text
  %b = flow.text <"2">
"""
    body += log("%ann_name", "one", "%token") + log("%b", "two", "%one_t")
    body += "  exec.return %b : !flow.text"
    start = time.monotonic()
    text = workflow(body, declarations=TOOLS.replace("DIRECTORY", str(tools)))
    assert run(text).value == "2"
    assert time.monotonic() - start < 1.2
    assert (tools / "log").read_text() == "Ann2"


def test_a_failing_tool_fails_the_run(tools: Path) -> None:
    body = '  %token = flow.token\n  %b = flow.text <"bad">\n' + log("%b", "one", "%token")
    text = workflow(
        body + "  exec.return %b : !flow.text",
        declarations=TOOLS.replace("DIRECTORY", str(tools)),
    )
    with pytest.raises(ToolError, match=r"^x.loom:4:4: tool 'log' raised ValueError: no"):
        run(text)


def test_ten_thousand_asks() -> None:
    outcome = run(mapped(), ["x"] * 10_000)
    assert len(outcome.asks) == 10_000


def test_a_long_chain_of_asks() -> None:
    body = LOOP + extend("%root", "%s", "c") + ask("%c", "%ann", "a")
    body += "    scf.yield %a_next, %a : !kv.context<dense>, !flow.text\n  }\n"
    text = workflow(body + "  exec.return %last : !flow.text", "%n : i64")
    assert run(text, 2000, answerer=Scripted(reply=lambda prompt: "y")).value == "y"


def test_what_cannot_be_run_is_named() -> None:
    with pytest.raises(ProgramError, match="is not a valid program"):
        parse("flow.nothing")
    body = '  %t = flow.token\n  flow.invoke @w {place = #flow.string<"p:1:1">}\n'
    body += "  exec.return %t : !flow.token"
    with pytest.raises(ProgramError, match=r"no step for flow\.invoke"):
        decode(parse(workflow(body)))
