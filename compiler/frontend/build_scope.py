"""SSA construction: which value a changing place has, through branches and loops.

After Braun et al., "Simple and Efficient Construction of Static Single Assignment Form" (2013),
for structured code: a loop's body is built first, each place read in it becomes an argument of the
body, and those that no iteration changes are taken out again. Knows nothing of the language.
"""

from __future__ import annotations

from collections.abc import Callable

from xdsl.dialects.builtin import LocationAttr
from xdsl.ir import Attribute, Block, BlockArgument, SSAValue


class Cell:
    """A place whose value changes as the program runs: a var, a history, the order of effects."""

    __slots__ = ("hint", "type")

    def __init__(self, hint: str | None, type_: Attribute) -> None:
        self.hint = hint
        self.type = type_

    def __repr__(self) -> str:
        return f"Cell({self.hint}: {self.type})"


class Scope:
    """The cells' values at the point that is being built, in one block.

    `is_final` holds where nothing follows the op of this block in the block around it. A cell
    that is declared in a scope ends with it, unless it is `kept` because the block yields it.
    """

    def __init__(self, block: Block, parent: Scope | None = None, *, is_final: bool = False):
        self.block = block
        self.parent = parent
        self.is_final = is_final
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.values: dict[Cell, SSAValue] = {}
        self._own: set[Cell] = set()
        self._kept: set[Cell] = set()
        self._incoming: dict[Cell, SSAValue] = {}

    @property
    def around(self) -> Scope:
        """The scope that this one's op stands in."""
        assert self.parent is not None
        return self.parent

    def declare(self, cell: Cell, value: SSAValue | None = None, *, kept: bool = False) -> None:
        """Start a cell here; without a value it must be written before it is read."""
        self._own.add(cell)
        if kept:
            self._kept.add(cell)
        if value is not None:
            self.values[cell] = self._incoming[cell] = value

    def read(self, cell: Cell) -> SSAValue:
        """Return the value of a cell at this point."""
        value = self.values.get(cell)
        if value is None:
            value = self._incoming[cell] = self.values[cell] = self._enter(cell)
        return value

    def write(self, cell: Cell, value: SSAValue) -> None:
        """Let a cell have a new value from this point on."""
        self.values[cell] = value

    def changed(self) -> list[Cell]:
        """Return the cells of scopes around this one that it changed, in order of first use."""
        return [
            cell
            for cell, value in self.values.items()
            if cell not in self._own and self._incoming.get(cell) is not value
        ]

    def rewrote(self, cell: Cell) -> bool:
        """Whether the cell has another value than it came in or was declared with."""
        return self.values[cell] is not self._incoming.get(cell)

    def owns(self, cell: Cell) -> bool:
        """Whether the cell was declared in this very scope."""
        return cell in self._own

    def is_dead_after(self, cell: Cell) -> bool:
        """Whether nothing can read the cell once this block is left, if nothing follows in it."""
        if cell in self._own:
            return cell not in self._kept
        return self.is_final and self.parent is not None and self.parent.is_dead_after(cell)

    def ends_program(self) -> bool:
        """Whether nothing at all follows this block."""
        return self.parent is None or (self.is_final and self.parent.ends_program())

    def _enter(self, cell: Cell) -> SSAValue:
        if self.parent is None:
            raise KeyError(f"{cell} is read before it is written")
        return self.parent.read(cell)


class RootScope(Scope):
    """The outermost scope of a workflow; some of its cells come to be when first read."""

    def __init__(self, block: Block) -> None:
        super().__init__(block, is_final=True)
        self._makers: dict[Cell, Callable[[], SSAValue]] = {}

    def declare_lazily(
        self, cell: Cell, make: Callable[[], SSAValue], *, kept: bool = False
    ) -> None:
        """Start a cell whose first value `make` puts at the start of the block when asked for."""
        self.declare(cell, kept=kept)
        self._makers[cell] = make

    def _enter(self, cell: Cell) -> SSAValue:
        make = self._makers.get(cell)
        return super()._enter(cell) if make is None else make()


class LoopScope(Scope):
    """The body of a loop: what an iteration changes is an argument for the next one."""

    def __init__(self, block: Block, parent: Scope, location: LocationAttr) -> None:
        super().__init__(block, parent)
        self._location = location
        self._arguments: dict[Cell, BlockArgument] = {}

    def settle(self) -> list[Cell]:
        """Take out the arguments that no iteration changes; return the cells that are carried.

        Their order is that of the block's last arguments. Call it when the body is complete but
        for its terminator.
        """
        changed = set(self.changed())
        for cell in self.changed():
            if cell not in self._arguments:
                self._add_argument(cell)
        for cell, argument in self._arguments.items():
            if cell not in changed:
                self._take_out(cell, argument)
        return [cell for cell in self._arguments if cell in changed]

    def _take_out(self, cell: Cell, argument: BlockArgument) -> None:
        outside = self.around.read(cell)
        argument.replace_all_uses_with(outside)
        self.block.erase_arg(argument)
        for other, value in self.values.items():
            if value is argument:
                self.values[other] = outside

    def _enter(self, cell: Cell) -> SSAValue:
        return self._add_argument(cell)

    def _add_argument(self, cell: Cell) -> BlockArgument:
        argument = self.block.insert_arg(cell.type, len(self.block.args), self._location)
        argument.name_hint = cell.hint
        self._arguments[cell] = argument
        return argument
