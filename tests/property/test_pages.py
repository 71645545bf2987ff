"""Random forks, extensions, releases and copies: no page leaks, and no token is overwritten."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tokenloom.runtime.pages import OutOfPages, PagePool, PageTable, extend, pages_to_extend
from tokenloom.runtime.reuse import Namespace, PrefixIndex

PAGE_TOKENS, NUM_PAGES = 4, 24


class Pages(RuleBasedStateMachine):
    """A memory of token ids stands for the KV pools: what a table reads must be what it wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(NUM_PAGES, PAGE_TOKENS)
        self.index = PrefixIndex(self.pool)
        self.root = self.index.root(Namespace("m", "float32", "plain"))
        self.memory = np.full((NUM_PAGES, PAGE_TOKENS), -1)
        self.tables: list[tuple[PageTable, list[int]]] = []
        self.copies: list[int] = []

    @rule()
    def start(self) -> None:
        self.tables.append((PageTable(PAGE_TOKENS), []))

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        table, tokens = data.draw(st.sampled_from(self.tables))
        self.pool.retain(table.pages)
        self.tables.append((table.copy(), list(tokens)))

    @precondition(lambda self: self.tables)
    @rule(data=st.data(), new=st.lists(st.integers(0, 2), min_size=1, max_size=9))
    def extend(self, data: st.DataObject, new: list[int]) -> None:
        table, tokens = data.draw(st.sampled_from(self.tables))
        if self.pool.num_free < pages_to_extend(self.pool, table, len(new)):
            with pytest.raises(OutOfPages):
                extend(self.pool, table, len(new))
            return
        extension = extend(self.pool, table, len(new))
        if extension.copy is not None:
            source, target = extension.copy
            self.memory[target] = self.memory[source]
            self.copies.append(source)
        self.memory.reshape(-1)[extension.slots] = new
        tokens.extend(new)
        full = np.array(tokens, np.int32)
        self.index.register(self.root, self.root, 0, full, table.pages)

    @precondition(lambda self: self.copies)
    @rule()
    def finish_copy(self) -> None:
        self.pool.end_copy(self.copies.pop())

    @rule(tokens=st.lists(st.integers(0, 2), max_size=14))
    def start_from_the_index(self, tokens: list[int]) -> None:
        pages, _ = self.index.match(self.root, np.array(tokens, np.int32), len(tokens))
        self.pool.retain(pages)
        table = PageTable(PAGE_TOKENS)
        table.take_pages(pages)
        self.tables.append((table, tokens[: table.num_tokens]))

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.tables) - 1))
        table, _ = self.tables.pop(index)
        self.pool.release(table.pages)

    @invariant()
    def books_agree(self) -> None:
        self.pool.check_integrity()
        held = [page for table, _ in self.tables for page in table.pages]
        assert all(self.pool.references(page) == held.count(page) for page in range(NUM_PAGES))
        pool = self.pool
        assert pool.num_free + pool.num_used + pool.num_pending == NUM_PAGES

    @invariant()
    def tables_read_what_they_wrote(self) -> None:
        for table, tokens in self.tables:
            entries = zip(table.pages, table.entries[3].tolist(), strict=True)
            read = [token for page, length in entries for token in self.memory[page, :length]]
            assert read == tokens

    def teardown(self) -> None:
        for table, _ in self.tables:
            self.pool.release(table.pages)
        for source in self.copies:
            self.pool.end_copy(source)
        assert self.pool.num_free == NUM_PAGES


Pages.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestPages = Pages.TestCase
