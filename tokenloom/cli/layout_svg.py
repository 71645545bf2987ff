"""Where a tensor lies, as one SVG file that needs nothing else: channels above, a tile below."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from tokenloom.backends.pim.drawing import Share, TensorMap
from tokenloom.cli.layout_view import tile_rows

_MARGIN, _LINE = 24, 18
_CHANNEL_WIDTH, _CHANNEL_HEIGHT, _CHANNELS_A_LINE = 88, 34, 16
_FIELD_WIDTH, _FIELD_HEIGHT = 104, 20
_WIDTH = 2 * _MARGIN + _CHANNELS_A_LINE * _CHANNEL_WIDTH
_GOLDEN_ANGLE = 137.508
"""Hues this many degrees apart stay distinct however many there are."""
_STYLE = (
    "text{font:12px ui-monospace,Menlo,Consolas,DejaVu Sans Mono,monospace;fill:#1b1f24}"
    "text.title{font-size:16px;font-weight:600}text.small{font-size:10px}"
    "rect{stroke:#57606a;stroke-width:0.7}"
)


def map_svg(tensor: TensorMap) -> str:
    """Return the drawing; a share's text shows where the pointer rests on its channel."""
    lines = [(tensor.title, "title"), *((fact, "") for fact in tensor.facts)]
    if tensor.num_shares > len(tensor.shares):
        left_out = f"Drawn are the first {len(tensor.shares):,} of {tensor.num_shares:,} shares."
        lines.append((left_out, ""))
    parts = [_text(_MARGIN, _MARGIN + _LINE * index, *line) for index, line in enumerate(lines)]
    top = _MARGIN + _LINE * len(lines)
    channels = _lines_of(tensor.channels) * _CHANNEL_HEIGHT
    parts += _channels(tensor, top)
    top += channels + 2 * _LINE
    parts += _tile(tensor, top)
    height = top + _FIELD_HEIGHT * (len(tile_rows(tensor)) + 1) + _MARGIN
    width = max(_WIDTH, 2 * _MARGIN + _FIELD_WIDTH * (tensor.banks + 2))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}"><title>{escape(tensor.title)}</title>'
        f'<style>{_STYLE}</style><rect width="{width}" height="{height}" fill="#ffffff"/>'
    )
    return "\n".join([head, *parts, "</svg>\n"])


def _channels(tensor: TensorMap, top: int) -> Iterator[str]:
    """Yield a box for each channel, in the colour of the first part that lies there."""
    held: dict[int, list[Share]] = {}
    for share in tensor.shares:
        held.setdefault(share.channel, []).append(share)
    for channel in range(tensor.channels):
        line, place = divmod(channel, _CHANNELS_A_LINE)
        x, y = _MARGIN + place * _CHANNEL_WIDTH, top + line * _CHANNEL_HEIGHT
        shares = held.get(channel, [])
        fill = _colour(shares[0].part) if shares else "#f6f8fa"
        texts = [f"channel {channel}", *(_share_text(share) for share in shares)]
        yield f"<g><title>{escape(chr(10).join(texts))}</title>"
        yield _box(x, y, _CHANNEL_WIDTH - 4, _CHANNEL_HEIGHT - 4, fill)
        yield _text(x + 4, y + 12, f"ch {channel}", "small")
        if shares:
            parts = sorted({share.part for share in shares})
            more = f" +{len(parts) - 1}" if len(parts) > 1 else ""
            yield _text(x + 4, y + 25, f"{tensor.part} {parts[0]}{more}", "small")
        yield "</g>"


def _tile(tensor: TensorMap, top: int) -> Iterator[str]:
    """Yield the grid of one tile: slots and columns downwards, banks to the right."""
    yield _text(_MARGIN, top - 6, f"{tensor.tile}:")
    heads = ["slot", "column", *(f"bank {bank}" for bank in range(tensor.banks))]
    for index, fields in enumerate([heads, *tile_rows(tensor)]):
        y = top + index * _FIELD_HEIGHT
        for place, field in enumerate(fields):
            x = _MARGIN + place * _FIELD_WIDTH
            named = index == 0 or place < 2
            yield _box(x, y, _FIELD_WIDTH, _FIELD_HEIGHT, "#eaeef2" if named else "#ffffff")
            yield _text(x + 5, y + 14, field)


def _share_text(share: Share) -> str:
    return f"{share.what}: rows {share.first_row} to {share.last_row}"


def _lines_of(channels: int) -> int:
    return -(-channels // _CHANNELS_A_LINE)


def _colour(part: int) -> str:
    return f"hsl({part * _GOLDEN_ANGLE % 360:.0f},65%,82%)"


def _box(x: int, y: int, width: int, height: int, fill: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}"/>'


def _text(x: int, y: int, text: str, style: str = "") -> str:
    named = f' class="{style}"' if style else ""
    return f'<text x="{x}" y="{y}"{named}>{escape(text)}</text>'
