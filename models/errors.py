"""The one error of this layer: a model that cannot be found, read or used as it is."""

from __future__ import annotations


class ModelError(Exception):
    """What is wrong with a model and what to do about it, in one message for its user."""
