from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp

from tokenloom.compiler.analysis.prefix_tree import PrefixNode

OP = ModuleOp([])


def chain(root: PrefixNode, *parts: tuple[str, int]) -> PrefixNode:
    node = root
    for key, tokens in parts:
        node = node.child(key, tokens, OP)
    return node


def test_equal_beginnings_are_one_path() -> None:
    root = PrefixNode(None, "m", 0)
    first = chain(root, ("a", 10), ("b", 5))
    second = chain(root, ("a", 10), ("c", 7))
    assert first.parent is second.parent
    assert first.parent is not None
    assert first.parent.shared
    assert not first.shared
    assert second.tokens == 17


def test_only_what_is_new_is_computed() -> None:
    root = PrefixNode(None, "m", 0)
    assert chain(root, ("a", 10), ("b", 5)).compute() is root
    other = chain(root, ("a", 10), ("c", 7))
    assert other.last_computed().tokens == 10
    assert other.compute().tokens == 10
    assert other.compute() is other


def test_a_window_keeps_the_system_prompt_and_the_last_turns() -> None:
    root = PrefixNode(None, "m", 0)
    system = chain(root, ("system", 20))
    system.system = True
    node = system
    for turn in range(3):
        node = chain(node, (f"ask {turn}", 4), (f"answer {turn}", 6))
        node.answer = True
    window = node.window(2, OP)
    assert window.tokens == 20 + 2 * 10
    assert [step.key for step in window.path()] == [
        "answer 2", "ask 2", "answer 1", "ask 1", "system", "m",
    ]  # fmt: skip
    assert node.window(9, OP) is node
