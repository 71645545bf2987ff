from __future__ import annotations

import numpy as np
import pytest

from tokenloom.runtime.pages import OutOfPages, PageError, PagePool, PageTable


def test_pages_are_taken_in_a_fixed_order():
    pool = PagePool(8)
    assert pool.allocate(3) == [0, 1, 2]
    pool.release([0, 1, 2])
    assert pool.allocate(4) == [0, 1, 2, 3]
    pool.check_integrity()


def test_too_many_pages_are_refused_and_none_is_taken():
    pool = PagePool(4)
    pool.allocate(3)
    with pytest.raises(OutOfPages, match="2 pages asked, 1 of 4 are free") as error:
        pool.allocate(2)
    assert (error.value.asked, error.value.free) == (2, 1)
    assert pool.num_free == 1


def test_a_page_is_free_after_its_last_release():
    pool = PagePool(2)
    (page,) = pool.allocate(1)
    pool.retain([page])
    pool.release([page])
    assert pool.num_used == 1
    pool.release([page])
    assert pool.num_used == 0
    with pytest.raises(PageError, match="released more often"):
        pool.release([page])
    with pytest.raises(PageError, match="holds nothing"):
        pool.retain([page])


def test_cached_pages_are_taken_last_and_the_longest_free_first():
    pool = PagePool(4)
    evicted: list[int] = []
    pool.on_evict.append(evicted.append)
    pages = pool.allocate(4)
    for page in (0, 1, 2):
        pool.keep(page)
    pool.release([0, 1])
    pool.release([2])
    pool.release([3])
    assert pool.allocate(1) == [3]
    pool.retain([1])
    assert pool.allocate(2) == [0, 2]
    assert evicted == [0, 2]
    assert pool.num_used == len(pages)
    pool.check_integrity()


def test_of_a_released_chain_the_end_is_taken_first():
    pool = PagePool(3)
    chain = pool.allocate(3)
    for page in chain:
        pool.keep(page)
    pool.release(chain)
    assert pool.allocate(2) == [chain[2], chain[1]]


def test_a_released_page_is_pending_until_its_copy_is_done():
    pool = PagePool(2)
    source, _ = pool.allocate(2)
    pool.begin_copy(source)
    pool.begin_copy(source)
    pool.release([source])
    assert (pool.num_free, pool.num_pending, pool.num_used) == (0, 1, 1)
    pool.end_copy(source)
    assert pool.num_pending == 1
    pool.end_copy(source)
    assert (pool.num_free, pool.num_pending) == (1, 0)
    pool.check_integrity()


def test_only_the_first_to_go_on_may_write_into_a_shared_page():
    pool = PagePool(2, page_tokens=4)
    (page,) = pool.allocate(1)
    pool.fill(page, 2)
    assert pool.can_append(page, 2)
    pool.fill(page, 3)
    assert not pool.can_append(page, 2)
    assert pool.can_append(page, 3)
    pool.seal(page)
    assert not pool.can_append(page, 3)
    assert not pool.can_append(page, 4)


def test_a_table_gives_slots_and_lengths():
    table = PageTable(4, capacity=1)
    assert table.missing_pages(6) == 2
    assert table.grow(6, [7, 3]).tolist() == [28, 29, 30, 31, 12, 13]
    assert table.missing_pages(2) == 0
    assert table.missing_pages(3) == 1
    assert table.grow(1, []).tolist() == [14]
    assert table.grow(4, [5]).tolist() == [15, 20, 21, 22]
    assert table.entries.tolist() == [[7, 3, 5], [0, 0, 0], [0, 4, 8], [4, 4, 3]]
    assert (table.num_tokens, table.last_page, table.last_length) == (11, 5, 3)


def test_growing_by_ones_is_growing_at_once():
    whole, single = PageTable(4), PageTable(4)
    pages = [9, 2, 6]
    expected = whole.grow(11, pages)
    slots = [single.grow(1, [pages.pop(0)] if single.missing_pages(1) else []) for _ in range(11)]
    assert np.concatenate(slots).tolist() == expected.tolist()
    assert single.entries.tolist() == whole.entries.tolist()


def test_a_copy_goes_its_own_way():
    table = PageTable(4)
    table.take_pages([1, 2])
    table.grow(2, [3])
    other = table.copy()
    other.replace_last(8)
    other.grow(3, [4])
    assert table.pages == [1, 2, 3]
    assert table.num_tokens == 10
    assert other.pages == [1, 2, 8, 4]
    assert other.entries[3].tolist() == [4, 4, 4, 1]
