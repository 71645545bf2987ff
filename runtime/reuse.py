"""The prefix index: which page already holds these tokens behind exactly those.

A page's key is H(key of the page before it, its tokens, run boundaries, provenance); the first key
is that of the namespace. A chain is `dense`, computed in place behind its true prefix, up to the
first linked run; behind one it goes on from a node that stands for that run, computed behind that
head, so no page of it is ever found for a context without the run. The index holds no reference on
a page: a page is found while somebody holds it, and afterwards until the pool takes it for
something else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakValueDictionary

from tokenloom.runtime.pages import IntArray, PagePool

DENSE = b"dense"
"""Provenance of a page that was computed in place."""

LINKED = b"linked"
"""Provenance of what stands behind a linked run."""

Digest = Callable[[bytes], bytes]


def _blake2(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


@dataclass(frozen=True)
class Namespace:
    """What must be equal for two contexts to share a page at all.

    `model` is the digest of the weights; `rope` the rope configuration in canonical text.
    """

    model: str
    dtype: str
    rope: str
    tenant: str = ""
    adapter: str = ""


@dataclass(eq=False)
class Node:
    """A known page: its key, the node before it, its tokens as bytes.

    Roots, and the nodes that stand for linked runs, have no page.
    """

    key: bytes
    parent: Node | None
    tokens: bytes
    page: int
    alive: bool = field(default=True)


class Linked(Protocol):
    """A linked run, told from any other by being another object."""

    @property
    def key(self) -> bytes:
        """A digest of all that its KV depends on."""
        ...


class PrefixIndex:
    """Exact prefixes over full pages, and over the last page of a run that another one follows.

    On a hit tokens and the node before are compared, so two pages whose keys collide are never
    taken for each other. Eviction is the pool's, which tells the index of it.
    """

    def __init__(self, pool: PagePool, digest: Digest = _blake2):
        self._page_tokens = pool.page_tokens
        self._pool = pool
        self._digest = digest
        self._roots: dict[Namespace, Node] = {}
        self._nodes: dict[bytes, Node] = {}
        self._by_page: dict[int, Node] = {}
        self._linked: WeakValueDictionary[tuple[Node, Linked], Node] = WeakValueDictionary()
        pool.on_evict.append(self._evicted)

    def __len__(self) -> int:
        return len(self._nodes)

    def root(self, namespace: Namespace) -> Node:
        """Return the node that all chains of a namespace start from."""
        node = self._roots.get(namespace)
        if node is None:
            key = self._digest(repr(namespace).encode())
            node = self._roots[namespace] = Node(key, None, b"", -1)
        return node

    def behind(self, node: Node, run: Linked) -> Node:
        """Return the node that chains start from behind `node` and a linked run."""
        found = self._linked.get((node, run))
        if found is None:
            found = Node(self._digest(node.key + run.key + LINKED), node, b"", -1)
            self._linked[node, run] = found
        return found

    def match(
        self, root: Node, token_ids: IntArray, max_tokens: int, *, is_closed: bool = False
    ) -> tuple[list[int], Node]:
        """Return the pages of the longest known prefix, and the last page's node.

        At most `max_tokens` tokens are matched; with `is_closed`, the run ends with these, and its
        last page may be shorter. The pages are not retained.
        """
        pages: list[int] = []
        node = root
        size = self._page_tokens
        end = min(max_tokens, len(token_ids))
        for start in range(0, end if is_closed else end - size + 1, size):
            child = self._find(node, token_ids[start : min(start + size, end)].tobytes())
            if child is None:
                break
            node = child
            pages.append(child.page)
        return pages, node

    def register(
        self,
        root: Node,
        node: Node,
        num_known: int,
        token_ids: IntArray,
        pages: Sequence[int],
        *,
        is_closed: bool = False,
    ) -> Node:
        """Make all full pages of a run findable; return the last one's node.

        `root` is what the run stands behind, `node` that of page `num_known - 1`, so the pages
        before need no work, unless it was evicted since. A page whose content is known already, in
        another page, is not added. With `is_closed` nothing is appended to the run any more, and
        its last page is findable too.
        """
        if not node.alive:
            node, num_known = root, 0
        size = self._page_tokens
        for index in range(num_known, len(pages) if is_closed else len(token_ids) // size):
            tokens = token_ids[index * size : (index + 1) * size].tobytes()
            node = self._find(node, tokens) or self._add(node, tokens, pages[index])
        return node

    def clear(self) -> None:
        """Forget all pages, as after a step that failed and left them unwritten."""
        for page in list(self._by_page):
            self._drop(page)

    def _evicted(self, page: int) -> None:
        node = self._by_page.pop(page, None)
        if node is not None:
            del self._nodes[node.key]
            node.alive = False

    def _drop(self, page: int) -> None:
        self._evicted(page)
        self._pool.forget(page)

    def _key(self, parent: Node, tokens: bytes) -> bytes:
        return self._digest(parent.key + tokens + DENSE)

    def _find(self, parent: Node, tokens: bytes) -> Node | None:
        node = self._nodes.get(self._key(parent, tokens))
        if node is None or node.parent is not parent or node.tokens != tokens:
            return None
        return node

    def _add(self, parent: Node, tokens: bytes, page: int) -> Node:
        node = Node(self._key(parent, tokens), parent, tokens, page)
        for old in (self._nodes.get(node.key), self._by_page.get(page)):
            if old is not None and old.alive:
                self._drop(old.page)
        self._nodes[node.key] = node
        self._by_page[page] = node
        self._pool.keep(page)
        return node
