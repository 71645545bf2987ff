"""A decoder layer cut over the devices of a system: its parts on each device's processor.

Heads, the MLP's width and the vocabulary are divided (tensor parallel), rounded up where they do
not divide. It knows nothing of stacks that compute.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenloom.backends.cost import ModelShape
from tokenloom.backends.system.gpu import Cost, Gpu
from tokenloom.backends.system.tiles import Product


@dataclass(frozen=True)
class Shard:
    """What one of `devices` holds of a model; `gated` MLPs have two matrices of `ffn` outputs."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    gated: bool
    vocab: int

    @classmethod
    def of(cls, shape: ModelShape, devices: int) -> Shard:
        """Return the largest share of a model over `devices`."""
        kv_heads = -(-shape.kv_heads // devices)
        return cls(
            hidden=shape.hidden,
            heads=max(-(-shape.heads // devices), kv_heads),
            kv_heads=kv_heads,
            head_dim=shape.head_dim,
            ffn=-(-(shape.plain_ffn or shape.ffn) // devices),
            gated=not shape.plain_ffn,
            vocab=-(-shape.vocab // devices),
        )

    @property
    def query_width(self) -> int:
        """Outputs of the query projection."""
        return self.heads * self.head_dim

    @property
    def qkv_width(self) -> int:
        """Outputs of the query, key and value projections."""
        return self.query_width + self.kv_width

    @property
    def kv_width(self) -> int:
        """Outputs of the key and value projections."""
        return 2 * self.kv_heads * self.head_dim

    @property
    def weights(self) -> int:
        """Elements of one layer's matrices."""
        matrices = 3 if self.gated else 2
        return self.hidden * (self.qkv_width + self.query_width + matrices * self.ffn)


@dataclass(frozen=True)
class Linear:
    """The parts of a layer that do not depend on the length of the context."""

    qkv: Cost
    projection: Cost
    feed_forward: tuple[Cost, ...]
    exchange: Cost
    elementwise: Cost


class Layer:
    """Costs of one layer of `shard` on one device."""

    def __init__(self, gpu: Gpu, shard: Shard):
        self._gpu = gpu
        self._shard = shard

    def linear(self, rows: int) -> Linear:
        """Return the cost of all but attention for `rows` tokens."""
        gpu, shard = self._gpu, self._shard
        widen = gpu.product(Product(rows, shard.ffn, shard.hidden))
        narrow = gpu.product(Product(rows, shard.hidden, shard.ffn))
        activation = gpu.activation(rows * shard.ffn, 2 if shard.gated else 1)
        return Linear(
            qkv=gpu.product(Product(rows, shard.qkv_width, shard.hidden)),
            projection=gpu.product(Product(rows, shard.hidden, shard.query_width)),
            feed_forward=(widen, widen, narrow) if shard.gated else (widen, narrow),
            exchange=gpu.all_reduce(rows * shard.hidden) * 2,
            elementwise=activation + gpu.norm(rows * shard.hidden) * 2,
        )

    def attention(self, requests: int, queries: int, length: int) -> Cost:
        """Return the cost of `queries` tokens of each request over `length` tokens.

        A block of the processor takes a KV head of a request; query heads that share it read its
        keys and values once. All scores are computed, masked or not (AttAcc simulator).
        """
        gpu, shard = self._gpu, self._shard
        blocks = requests * shard.kv_heads
        rows = queries * -(-shard.heads // shard.kv_heads)
        score = Product(rows, length, shard.head_dim, blocks, spread=False)
        context = Product(rows, shard.head_dim, length, blocks, spread=False)
        softmax = gpu.softmax(rows * length * blocks, blocks)
        return gpu.product(score) + softmax + gpu.product(context)

    def logits(self, rows: int) -> Cost:
        """Return the cost of the last norm and the output projection of `rows` tokens."""
        gpu, shard = self._gpu, self._shard
        norm = gpu.norm(rows * shard.hidden)
        return norm + gpu.product(Product(rows, shard.vocab, shard.hidden))
