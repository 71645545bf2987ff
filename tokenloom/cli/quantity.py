"""Numbers of a machine as text: the unit is what the key's name ends with."""

from __future__ import annotations

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_TIMES_NS = ((1e9, "s"), (1e6, "ms"), (1e3, "us"))
_SUFFIXES = (
    ("_pj_per_bit", "pJ/bit"),
    ("_pj_per_byte", "pJ/B"),
    ("_pj_per_token", "pJ/token"),
    ("_pj_per_element", "pJ/element"),
    ("_w_per_die", "W/die"),
    ("_pj", "pJ"),
    ("_cycles", "cycles"),
    ("_tokens", "tokens"),
)


def quantity(key: str, value: object) -> str:
    """Return the value of `key` with its unit: bytes in powers of 1024, rates in powers of 1000."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    if "_bytes_per_s" in key:
        return rate(value, "B/s")
    if "_flop_per_s" in key:
        return rate(value, "FLOP/s")
    if key.endswith("_bytes"):
        return size(value)
    if key.endswith("_ns"):
        return duration(value)
    unit = next((unit for suffix, unit in _SUFFIXES if key.endswith(suffix)), "")
    return f"{_plain(value)} {unit}".strip()


def size(size_bytes: float) -> str:
    """Return bytes in the largest unit that they reach: 68719476736 is 64 GiB."""
    unit = 0
    while size_bytes >= 1024 and unit < len(_BYTES) - 1:
        size_bytes, unit = size_bytes / 1024, unit + 1
    return f"{_plain(round(size_bytes, 1))} {_BYTES[unit]}"


def rate(per_s: float, unit: str) -> str:
    """Return a rate with four digits: 2.048e12 B/s is 2.048 TB/s."""
    for scale, letter in _SCALES:
        if per_s >= scale:
            return f"{per_s / scale:.4g} {letter}{unit}"
    return f"{per_s:.4g} {unit}"


def duration(time_ns: float) -> str:
    """Return a time in the largest unit that it reaches."""
    for scale, unit in _TIMES_NS:
        if time_ns >= scale:
            return f"{time_ns / scale:g} {unit}"
    return f"{time_ns:g} ns"


def _plain(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
