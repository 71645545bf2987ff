from __future__ import annotations

from dataclasses import replace

from tokenloom.runtime.conversation import Conversation
from tokenloom.runtime.runs import Link, Run

HEAD = Conversation("m", pieces=((1, 2),)).window(0)
TURN = replace(HEAD, pieces=((3,),))


def test_a_run_is_what_stands_behind_a_context_with_all_that_it_depends_on() -> None:
    whole = replace(TURN, pieces=((3,), (4, 5), (6,)))
    run = whole.run_behind(TURN)
    assert (run.head_ids, run.head_links, run.ids) == ((1, 2, 3), (), (4, 5, 6))
    linked = TURN.link(run)
    assert linked.ids == whole.ids
    assert linked.links == (Link(3, run),)
    behind = replace(linked, pieces=(*linked.pieces, (7,)))
    assert behind.run_behind(linked).head_links == linked.links


def test_an_empty_run_is_no_link() -> None:
    assert TURN.link(TURN.run_behind(TURN)) is TURN


def test_a_secret_in_the_head_of_a_run_masks_all_that_link_it() -> None:
    sibling = replace(TURN, is_secret=True)
    run = replace(sibling, pieces=((3,), (4,))).run_behind(sibling)
    assert run.is_secret
    assert TURN.link(run).is_secret


def test_a_window_moves_the_links_it_keeps_and_drops_the_others() -> None:
    run = Run((9,), (), (4, 5))
    first = TURN.link(run).close((10, 11))
    second = replace(first, pieces=((6,),)).link(run).close((12,))
    assert [link.start for link in second.links] == [3, 8]
    last = second.window(1)
    assert last.ids == (1, 2, 6, 4, 5, 12)
    assert last.links == (Link(3, run),)
    assert last.ids[3:5] == run.ids
    assert second.window(2) is second
