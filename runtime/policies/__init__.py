"""Scheduling policies by name. A new one is one file and one line here."""

from __future__ import annotations

from tokenloom.runtime.policies.contract import Policy
from tokenloom.runtime.policies.fcfs import Fcfs
from tokenloom.runtime.policies.lru_prefix import LruPrefix

POLICIES: dict[str, type[Policy]] = {policy.name: policy for policy in (Fcfs, LruPrefix)}
