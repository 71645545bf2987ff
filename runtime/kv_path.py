"""How far a text has KV, and what the index knows of it.

It knows nothing of requests, or of how pages are found.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenloom.runtime.pages import PageTable
from tokenloom.runtime.reuse import Node


@dataclass(slots=True)
class KvPath:
    """The pages of a text from its start on.

    The last run stands behind `frame` in the index; its first `num_registered` pages are findable,
    the last of these as `node`. `num_linked` links were passed. With `fills` the last run is one
    that is computed to be linked, and no chain of the index.
    """

    table: PageTable
    frame: Node
    node: Node
    num_registered: int = 0
    num_linked: int = 0
    fills: bool = False

    def copy(self) -> KvPath:
        """Return an equal path. Its owner must retain the pages."""
        return KvPath(
            self.table.copy(),
            self.frame,
            self.node,
            self.num_registered,
            self.num_linked,
            self.fills,
        )

    def open_frame(self, node: Node) -> None:
        """Let what comes next stand behind `node`, in a frame of its own."""
        self.table.open_frame()
        self.frame = self.node = node
        self.num_registered = 0
