"""Which KV blocks belong near memory: promotion, eviction, channels, and bounded replication.

The policy is ours: TokenStack's is not public. A block is promoted when the reads expected of it
save more time and more energy than moving it costs. It decides and moves nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from tokenloom.backends.pim.controller.hotness import Hotness
from tokenloom.backends.pim.controller.kv_shape import BlockId, Format, KvShape
from tokenloom.backends.pim.paths import array_pj_per_byte, bus_bytes_per_s, one_stack
from tokenloom.backends.pim.stack import PimStack


@dataclass(frozen=True)
class BlockCosts:
    """What one block costs: a read by the processor, a read by the units, and a migration.

    Times are shares of the whole stack's: its bandwidth is taken to be in full use.
    """

    size_bytes: int
    dense_read_ns: float
    pim_read_ns: float
    migrate_ns: float
    dense_read_pj: float
    pim_read_pj: float
    migrate_pj: float

    @classmethod
    def of(cls, stack: PimStack, shape: KvShape, form: Format = "fp16") -> BlockCosts:
        """Take the costs of a block that is FP16 in the dense layers and `form` near the units."""
        one, energy = one_stack(stack), stack.energy
        dense, pim = shape.block_bytes("fp16"), shape.block_bytes(form)
        coded = shape.block_elements if form != "fp16" else 0
        crossing_pj = array_pj_per_byte(energy, "buffer")
        return cls(
            pim,
            dense / one.bandwidth_bytes_per_s * 1e9,
            pim / one.internal_bandwidth_bytes_per_s * 1e9,
            (dense + pim) / bus_bytes_per_s(one) * 1e9,
            dense * array_pj_per_byte(energy, "processor"),
            pim * array_pj_per_byte(energy, stack.level),
            (dense + pim) * crossing_pj + coded * energy.quantize_pj_per_element,
        )

    @property
    def saved_ns(self) -> float:
        """What a read near memory saves."""
        return self.dense_read_ns - self.pim_read_ns

    @property
    def saved_pj(self) -> float:
        """What a read near memory saves."""
        return self.dense_read_pj - self.pim_read_pj

    @property
    def break_even_reads(self) -> float:
        """Reads after which a migration has cost no energy; more save some."""
        return self.migrate_pj / self.saved_pj

    def worth(self, reads: float, migrations: int = 1) -> bool:
        """Return whether reads near memory save more time and energy than the migrations cost."""
        saves_time = reads * self.saved_ns > migrations * self.migrate_ns
        return saves_time and reads * self.saved_pj > migrations * self.migrate_pj


def break_even_reads(stack: PimStack) -> float:
    """Return how often a promoted FP16 byte must be read until its migration has cost no energy.

    52.64 pJ a byte moved over 28.72 - 4.40 saved a read: 2.16 at bank level.
    """
    return BlockCosts.of(stack, KvShape(1, 1, stack.unit.lanes)).break_even_reads


@dataclass(frozen=True)
class Plan:
    """Blocks to evict to the dense layers, then blocks to promote, the most valuable first."""

    promote: tuple[BlockId, ...]
    evict: tuple[BlockId, ...]


@dataclass(frozen=True)
class Placement:
    """The policy for one stack whose computing layers hold `capacity` blocks.

    Reads are expected over `windows` windows.
    """

    costs: BlockCosts
    capacity: int
    windows: int

    def plan(self, hotness: Hotness, resident: Collection[BlockId]) -> Plan:
        """Return what to move, given the blocks that are near memory now.

        A block takes a free place if it is worth its migration, and the place of a colder one if
        what it saves beyond that one pays for both migrations. No more than `capacity` stay.
        """
        reads = {b: hotness.expected_reads(b, self.windows) for b in {*hotness.blocks, *resident}}
        coldest = self.coldest(hotness, resident)
        evict = coldest[: max(0, len(resident) - self.capacity)]
        victims = coldest[len(evict) :]
        free = self.capacity - len(victims)
        wanted = (block for block in hotness.blocks if block not in resident)
        promote: list[BlockId] = []
        for block in sorted(wanted, key=lambda block: (-reads[block], block)):
            if free and self.costs.worth(reads[block]):
                free -= 1
            elif not free and victims and self.costs.worth(reads[block] - reads[victims[0]], 2):
                evict.append(victims.pop(0))
            else:
                break
            promote.append(block)
        return Plan(tuple(promote), tuple(evict))

    def coldest(self, hotness: Hotness, resident: Collection[BlockId]) -> list[BlockId]:
        """Return resident blocks, what saves least first: P(reuse) * time saved / bytes."""

        def score(block: BlockId) -> tuple[float, float, BlockId]:
            saved = hotness.reuse_probability(block) * self.costs.saved_ns / self.costs.size_bytes
            return saved, hotness.expected_reads(block, self.windows), block

        return sorted(resident, key=score)


@dataclass(frozen=True)
class Replication:
    """Bounded replication: at most `max_copies` of a block, and a share of the capacity in all.

    A block read by several requests in a window gets a copy more for each `target_ns` that its
    reads take. ValueError: a share that is not in [0, 1], or other bounds that are not positive.
    """

    max_copies: int
    budget_share: float
    target_ns: float

    def __post_init__(self) -> None:
        if not 0 <= self.budget_share <= 1:
            raise ValueError(f"budget_share must lie in [0, 1], got {self.budget_share}")
        if self.max_copies < 1 or self.target_ns <= 0:
            raise ValueError("max_copies and target_ns must be positive")

    def replicas(
        self,
        readers: Mapping[BlockId, Sequence[int]],
        read_ns: float,
        capacity: int,
        growing: Collection[BlockId] = (),
    ) -> dict[BlockId, int]:
        """Return how many copies beside itself each block gets, 0 left out.

        `readers` has for each block the site (a stack, or a channel) of every active request that
        reads it: blocks read from one site only are not replicated, nor are those that are still
        written to (`growing`). The most read come first; the last may get fewer than it should.
        """
        left = int(self.budget_share * capacity)
        copies: dict[BlockId, int] = {}
        for block in sorted(readers, key=lambda block: (-len(readers[block]), block)):
            sites = len(set(readers[block]))
            if block in growing or sites < 2:
                continue
            needed = ceil(len(readers[block]) * read_ns / self.target_ns)
            extra = min(self.max_copies, needed, sites, left + 1) - 1
            if extra:
                copies[block] = extra
                left -= extra
        return copies


def choose_channel(
    load_ns: Sequence[float],
    free: Sequence[int],
    read_ns: float,
    siblings: Sequence[int] = (),
    hop_ns: float = 0.0,
) -> int | None:
    """Return the channel for a block whose reads take `read_ns` a window; None if all are full.

    The one with the least `max(load) + hop_ns * hops`: a hop for each block of the same head
    (`siblings`, by channel) that lies elsewhere. Among equals the least loaded, then the first.
    """
    most, near = max(load_ns, default=0.0), Counter(siblings)

    def cost(channel: int) -> tuple[float, float, int]:
        load = load_ns[channel] + read_ns
        hops = len(siblings) - near[channel]
        return max(most, load) + hop_ns * hops, load, channel

    return min((channel for channel, room in enumerate(free) if room), key=cost, default=None)
