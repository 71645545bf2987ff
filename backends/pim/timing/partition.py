"""Which banks the commands of a channel tell apart: state is kept for those and no finer.

All-bank commands alone need one record of time, not one for each of 64 banks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import ALL

Scope = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Place:
    """What a scope covers, as indices of the parts told apart at each level.

    `one_bank`: the scope is a single bank of a pseudo channel, or the same one in several.
    """

    scope: Scope
    banks: tuple[int, ...]
    groups: tuple[int, ...]
    sids: tuple[int, ...]
    pseudo_channels: tuple[int, ...]
    one_bank: bool


class Partition:
    """The parts that `scopes` tell apart in the banks of a channel; one place for each scope.

    A scope comes with whether it is that of units, of which each reads one of several banks where
    the stack has one unit for several; then its bank counts within a unit.
    """

    def __init__(self, scopes: Iterable[tuple[Scope, bool]], stack: PimStack):
        known = list(scopes)
        sizes = stack.pseudo_channels, stack.sids, stack.bank_groups, stack.banks
        self.num_banks = 0
        covered = np.zeros((len(known), *sizes), bool)
        for index, (scope, of_units) in enumerate(known):
            step = stack.unit.banks_per_unit if of_units else 1
            sids = slice(stack.pim_sids) if of_units and scope[1] == ALL else _slice(scope[1])
            banks = _bank(scope[3], step)
            covered[index, _slice(scope[0]), sids, _slice(scope[2]), banks] = True
        parts = [
            _parts(covered.any(axis=tuple(range(depth + 1, 5))).reshape(len(known), -1))
            for depth in (4, 3, 2, 1)
        ]
        self.num_parts = tuple(1 + max((max(p) for p in level if p), default=0) for level in parts)
        self.places: dict[tuple[tuple[int, ...], bool], Place] = {
            key: Place(key[0], *(level[index] for level in parts), one_bank=ALL not in key[0][1:])
            for index, key in enumerate(known)
        }


def _slice(index: int) -> slice:
    return slice(None) if index == ALL else slice(index, index + 1)


def _bank(bank: int, step: int) -> slice:
    return slice(bank, None, step) if step > 1 and bank != ALL else _slice(bank)


def _parts(covered: np.ndarray) -> list[tuple[int, ...]]:
    """Return for each row the classes of columns that it covers; equal columns are one class."""
    _, classes = np.unique(covered, axis=1, return_inverse=True)
    flat = np.asarray(classes).reshape(-1)
    return [tuple(np.unique(flat[row]).tolist()) for row in covered]
