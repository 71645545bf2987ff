from __future__ import annotations

import numpy as np
import pytest

from tokenloom.runtime.pages import PagePool
from tokenloom.runtime.reuse import Namespace, PrefixIndex

SPACE = Namespace("model", "float32", "plain")


def ids(*values: int):
    return np.array(values, np.int32)


def make(num_pages: int = 8):
    pool = PagePool(num_pages, page_tokens=2)
    return pool, PrefixIndex(pool)


def test_the_longest_prefix_of_full_pages_is_found():
    pool, index = make()
    root = index.root(SPACE)
    pages = pool.allocate(3)
    tail = index.register(root, root, 0, ids(1, 2, 3, 4, 5), pages)
    assert len(index) == 2
    assert index.match(root, ids(1, 2, 3, 4, 5), 5) == (pages[:2], tail)
    assert index.match(root, ids(1, 2, 3, 9), 4)[0] == pages[:1]
    assert index.match(root, ids(1, 2, 3, 4), 3)[0] == pages[:1]
    assert index.match(root, ids(3, 4), 2) == ([], root)


def test_equal_tokens_behind_another_prefix_are_another_page():
    pool, index = make()
    root = index.root(SPACE)
    index.register(root, root, 0, ids(1, 2, 3, 4), pool.allocate(2))
    assert index.match(root, ids(8, 8, 3, 4), 4)[0] == []
    index.register(root, root, 0, ids(8, 8, 3, 4), pool.allocate(2))
    assert index.match(root, ids(8, 8, 3, 4), 4)[0] == [2, 3]


@pytest.mark.parametrize(
    "other",
    [
        Namespace("other", "float32", "plain"),
        Namespace("model", "float16", "plain"),
        Namespace("model", "float32", "yarn"),
        Namespace("model", "float32", "plain", tenant="b"),
        Namespace("model", "float32", "plain", adapter="lora"),
    ],
)
def test_namespaces_share_nothing(other: Namespace):
    pool, index = make()
    root = index.root(SPACE)
    index.register(root, root, 0, ids(1, 2), pool.allocate(1))
    assert index.match(index.root(other), ids(1, 2), 2)[0] == []
    assert index.root(SPACE) is root


def test_pages_outlive_their_owner_until_they_are_taken():
    pool, index = make(3)
    root = index.root(SPACE)
    pages = pool.allocate(2)
    index.register(root, root, 0, ids(1, 2, 3, 4), pages)
    pool.release(pages)
    found, _ = index.match(root, ids(1, 2, 3, 4), 4)
    assert found == pages
    pool.allocate(2)
    assert index.match(root, ids(1, 2, 3, 4), 4)[0] == pages[:1]
    assert len(index) == 1


def test_a_chain_that_lost_its_middle_is_registered_again():
    pool, index = make()
    root = index.root(SPACE)
    first = pool.allocate(2)
    node = index.register(root, root, 0, ids(1, 2, 3, 4), first)
    own = pool.allocate(3)
    tail = index.register(root, root, 0, ids(1, 2, 3, 4, 5, 6), own)
    assert index.match(root, ids(1, 2, 3, 4, 5, 6), 6) == ([*first, own[2]], tail)
    pool.release(first)
    pool.allocate(5)
    assert not node.alive
    assert index.match(root, ids(1, 2, 3, 4, 5, 6), 6)[0] == []
    index.register(root, node, 2, ids(1, 2, 3, 4, 5, 6), own)
    assert index.match(root, ids(1, 2, 3, 4, 5, 6), 6)[0] == own


def test_colliding_keys_never_give_a_wrong_page():
    pool = PagePool(8, page_tokens=2)
    index = PrefixIndex(pool, digest=lambda data: b"same")
    root, other = index.root(SPACE), index.root(Namespace("other", "float32", "plain"))
    index.register(root, root, 0, ids(1, 2), pool.allocate(1))
    assert index.match(root, ids(1, 2, 1, 2), 4)[0] == [0]
    assert index.match(root, ids(3, 4), 2)[0] == []
    assert index.match(other, ids(1, 2), 2)[0] == []
    index.register(other, other, 0, ids(1, 2), pool.allocate(1))
    assert index.match(other, ids(1, 2), 2)[0] == [1]
    assert index.match(root, ids(1, 2), 2)[0] == []


def test_clearing_forgets_pages_and_keeps_their_owners():
    pool, index = make()
    root = index.root(SPACE)
    pages = pool.allocate(2)
    index.register(root, root, 0, ids(1, 2, 3, 4), pages)
    index.clear()
    assert index.match(root, ids(1, 2), 2)[0] == []
    assert (pool.num_cached, pool.num_used) == (0, 2)
