# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false
"""Checks of a scheduled PIM function, before it is built: what the units cannot do is named."""

from __future__ import annotations

from typing import Any

from tokenloom.backends.kernels.pim_intrinsics import Units


def check(function: Any, units: Units) -> None:
    """Raise DeviceError where the function asks what the units cannot do."""
