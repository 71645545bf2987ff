"""Random Loom programs."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

HEADER = '''\
model m = "tiny"
tool note(line: text) -> text {
    impl = "tools:note"
    effect
}
agent Solo {
    model = m
    system = """You are alone."""
    history = HISTORY
    reuse = REUSE
}
agent Named(name: text) {
    model = m
    temperature = 0.9
    system = """You are {name}."""
    history = HISTORY
    reuse = REUSE
}
workflow sub(x: text, who: Named) -> text {
    if len(x) > 3 {
        return who.ask("""{x}""", max = 2)
    }
    return x
}
'''


class Source:
    """Writes one random workflow; every name it uses is in scope and of the right type."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.count = 0

    def pick(self, items: list[str]) -> str:
        return self.draw(st.sampled_from(items))

    def fresh(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def block(self, texts: list[str], agents: list[str], depth: int, *, ends: bool) -> list[str]:
        lines: list[str] = []
        texts, agents = list(texts), list(agents)
        for _ in range(self.draw(st.integers(1, 4))):
            lines += self.statement(texts, agents, depth)
        if ends and self.draw(st.booleans()):
            lines.append(f"return {self.pick(texts)}")
        return lines

    def statement(self, texts: list[str], agents: list[str], depth: int) -> list[str]:
        simple = ["ask", "assign", "count", "agent", "gather", "map", "assert", "call", "note"]
        nested = ["if", "return", "repeat", "until", "for", "for_agents"] if depth else []
        kind = self.pick([*simple, *nested])
        return getattr(self, f"_{kind}")(texts, agents, depth)

    def _ask(self, texts: list[str], agents: list[str], depth: int) -> list[str]:
        name = self.fresh("x")
        line = (
            f'let {name} = {self.pick(agents)}.ask("""é {{{self.pick(texts)}}} {{n}}""", max = 2)'
        )
        texts.append(name)
        return [line]

    def _assign(self, texts: list[str], agents: list[str], depth: int) -> list[str]:
        right = self.pick([f'{self.pick(agents)}.ask("go", max = 2)', self.pick(texts), '"a"'])
        return [f"t = {right} + {self.pick(texts)}"]

    def _count(self, texts: list[str], agents: list[str], depth: int) -> list[str]:
        return [f"n = n + len({self.pick(texts)})"]

    def _agent(self, texts: list[str], agents: list[str], depth: int) -> list[str]:
        name = self.fresh("a")
        agents.append(name)
        return [f"let {name} = Named({self.pick(texts)})"]

    def _gather(self, texts: list[str], agents: list[str], depth: int) -> list[str]:
        name = self.fresh("g")
        members = [a for a in agents if a not in ("Solo", "d")][:2]
        listed = ", ".join([*members, "Solo", 'Named("fresh")'])
        long = self.pick(["", "{topic} and all that has ever been said about it, {topic}"])
        body = f'd.ask("""{{others}} {long} {{round}} {{{self.pick(texts)}}}""", max = 2)'
        texts.append(f'join({name}, ", ")')
        return [f"let {name} = gather d in [{listed}] for rounds {{", f"    {body}", "}"]

    def _map(self, texts: list[str], agents: list[str], depth: int) -> list[str]:
        name = self.fresh("m")
        texts.append(f'join({name}, "\\n")')
        return [
            f"let {name} = map w in words {{",
            "    let who = Named(w)",
            f'    who.ask("""{{w}} {{{self.pick(texts[:-1])}}}""", max = 2)',
            "}",
        ]

    def _assert(self, texts: list[str], agents: list[str], depth: int) -> list[str]:
        return [f'assert n >= 0 and not ({self.pick(texts)} == "") else "n is {{n}}"']

    def _call(self, texts: list[str], agents: list[str], depth: int) -> list[str]:
        named = [a for a in agents if a not in ("Solo", "d")]
        return [f"t = sub({self.pick(texts)}, {self.pick(named)})"] if named else ['t = "z"']

    def _note(self, texts: list[str], agents: list[str], depth: int) -> list[str]:
        return [f"note({self.pick(texts)})"]

    def _if(self, texts: list[str], agents: list[str], depth: int) -> list[str]:
        return [
            f'if n < {self.draw(st.integers(0, 3))} or {self.pick(texts)} in ["a", "b"] {{',
            *self.block(texts, agents, depth - 1, ends=False),
            "} else {",
            *self.block(texts, agents, depth - 1, ends=False),
            "}",
        ]

    def _return(self, texts: list[str], agents: list[str], depth: int) -> list[str]:
        lines = [f"if n > {self.draw(st.integers(0, 9))} {{"]
        return [*lines, *self.block(texts, agents, depth - 1, ends=True), "}"]

    def _repeat(self, texts: list[str], agents: list[str], depth: int) -> list[str]:
        count = self.pick(["2", "rounds"])
        return [f"repeat {count} {{", *self.block(texts, agents, depth - 1, ends=False), "}"]

    def _until(self, texts: list[str], agents: list[str], depth: int) -> list[str]:
        body = self.block(texts, agents, depth - 1, ends=False)
        return ["repeat max 3 {", *body, "    until n > 2", "}"]

    def _for(self, texts: list[str], agents: list[str], depth: int) -> list[str]:
        word = self.fresh("w")
        body = self.block([*texts, word], agents, depth - 1, ends=False)
        return [f"for {word} in words {{", *body, "}"]

    def _for_agents(self, texts: list[str], agents: list[str], depth: int) -> list[str]:
        one, many = self.fresh("b"), self.fresh("many")
        body = self.block(texts, [one], depth - 1, ends=False)
        made = [f"let {many} = map w in words {{ Named(w) }}"]
        return [*made, f"for {one} in {many} {{", *body, "}"]


@st.composite
def random_programs(draw: st.DrawFn) -> str:
    source = Source(draw)
    body = source.block(["topic", "t"], ["Solo"], 3, ends=False)
    start = ['var t = "start"', "var n = 0"]
    lines = "\n".join([*start, *body, "return t"])
    head = "workflow main(topic: text, words: [text], rounds: int(1..3) = 2) -> text {"
    # One for all, as agents that one ask may address must keep their histories alike.
    header = HEADER.replace("HISTORY", draw(st.sampled_from(["keep", "last(1)", "none"])))
    header = header.replace("REUSE", draw(st.sampled_from(["exact", "linked", "linked"])))
    return f"{header}{head}\n{lines}\n}}\n"


@pytest.fixture(scope="session")
def programs() -> st.SearchStrategy[str]:
    """Texts of programs whose workflow takes a text, a list of texts and a number of rounds."""
    return random_programs()
