"""Where a tensor lies, as text: channels and rows, then one tile slot by slot and bank by bank."""

from __future__ import annotations

from tokenloom.backends.pim.drawing import Cell, TensorMap

MOST_LINES = 24
"""Shares that are listed; the SVG and the JSON have more."""


def map_lines(tensor: TensorMap) -> list[str]:
    """Return the lines of a map."""
    lines = [tensor.title, "", *tensor.facts, "", *share_lines(tensor), ""]
    return [*lines, *tile_lines(tensor)]


def share_lines(tensor: TensorMap) -> list[str]:
    """Return a line for each share, with what is left out counted in the last."""
    shown = tensor.shares[:MOST_LINES]
    lines = [f"{'channel':>7}  {'rows':<13}  what"]
    for share in shown:
        rows = f"{share.first_row} to {share.last_row}"
        lines.append(f"{share.channel:>7}  {rows:<13}  {share.what}")
    if tensor.num_shares > len(shown):
        lines.append(f"{'':>7}  {'':<13}  and {tensor.num_shares - len(shown):,} more")
    return lines


def tile_lines(tensor: TensorMap) -> list[str]:
    """Return the grid of a tile: a line for each slot and column, a field for each bank."""
    table = tile_rows(tensor)
    heads = ["slot", "column", *(f"bank {bank}" for bank in range(tensor.banks))]
    widths = [max(map(len, column)) for column in zip(heads, *table, strict=True)]

    def line(left: str, fields: list[str], middle: str, right: str, fill: str = " ") -> str:
        texts = (f"{text:{fill}<{width}}" for text, width in zip(fields, widths, strict=True))
        return left + f"{fill}{middle}{fill}".join(texts) + right

    empty = [""] * len(heads)
    rule = [line(*ends) for ends in (("┌─", empty, "┬", "─┐", "─"), ("├─", empty, "┼", "─┤", "─"))]
    last = line("└─", empty, "┴", "─┘", "─")
    rows = [line("│ ", fields, "│", " │") for fields in table]
    return [f"{tensor.tile}:", rule[0], line("│ ", heads, "│", " │"), rule[1], *rows, last]


def tile_rows(tensor: TensorMap) -> list[list[str]]:
    """Return, for each slot and column that hold something, their names and what each bank has."""
    found: dict[tuple[int, int], list[Cell]] = {}
    for cell in tensor.cells:
        found.setdefault((cell.slot, cell.column), []).append(cell)
    rows: list[list[str]] = []
    for (slot, column), cells in sorted(found.items()):
        what = {cell.bank: cell.what for cell in cells}
        banks = [what.get(bank, "") for bank in range(tensor.banks)]
        rows.append([tensor.slots[slot], str(column), *banks])
    return rows
