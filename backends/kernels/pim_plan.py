# pyright: reportMissingTypeStubs=false
"""Sizes of one attention function of a PIM stack: what its buffers hold and where, as numbers.

A *step* is one command of the units on a page: a token for each slot. Buffers of units are indexed
by step or pass first, then query head, then unit, so that a command works on neighbours. It holds
no expression and no command.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenloom.backends.kernels.pim_address import BankAddress
from tokenloom.backends.kernels.pim_shape import PimShape
from tokenloom.backends.kernels.vector import LANES
from tokenloom.backends.pim.operations.schedule import SEGMENT_PAGES, AttentionSchedule
from tokenloom.backends.pim.stack import LEVELS
from tokenloom.kernel_spec import KernelSpec

REGIONS = 64
"""Tasks whose base die memory does not overlap; later ones use it again."""

SELECTED = {
    "bank": ("channel",),
    "bank-group": ("channel", "bank"),
    "buffer": ("channel", "sid", "bank_group", "bank"),
}
"""What a command at a level selects one of; of the other units it takes all."""


@dataclass(frozen=True)
class AttentionPlan:
    """The sizes of a stack and of its tiles, and the schedule they are worked on by."""

    shape: PimShape
    schedule: AttentionSchedule
    address: BankAddress

    @classmethod
    def of(cls, spec: KernelSpec) -> AttentionPlan:
        """Take the sizes and the schedule out of a spec, see `pim.attention_specs`."""
        schedule = AttentionSchedule(
            LEVELS[spec.dim("level")],
            bool(spec.dim("pass_major")),
            spec.dim("phase_segments"),
            spec.dim("heads_together"),
        )
        return cls(PimShape.of(spec), schedule, BankAddress.of(spec))

    @property
    def heads(self) -> int:
        """Query heads that are worked on together."""
        return self.schedule.heads_together

    @property
    def batches(self) -> int:
        """How often a KV head is read, for so many query heads each time."""
        return self.shape.heads_per_kv // self.heads

    @property
    def banks(self) -> int:
        """Banks of a bank group that one command takes."""
        return self.shape.banks if self.schedule.level == "bank" else 1

    @property
    def groups(self) -> int:
        """Bank groups of a pseudo channel that one command takes."""
        return 1 if self.schedule.level == "buffer" else self.shape.pim_groups

    @property
    def selected(self) -> tuple[str, ...]:
        """The unit fields that a command of the units sets."""
        return SELECTED[self.schedule.level]

    @property
    def units(self) -> int:
        """Units that one command makes work."""
        return self.shape.pseudo_channels * self.groups * self.banks

    @property
    def passes(self) -> int:
        """Columns of a token in a bank."""
        return self.shape.chunk_passes

    @property
    def page_steps(self) -> int:
        """Steps of a page."""
        return self.shape.token_passes

    @property
    def page_elements(self) -> int:
        """Scores of a page in the base die: 16, and more where slots do not divide 16."""
        return self.page_steps * self.shape.slots

    @property
    def segment_steps(self) -> int:
        """Steps of a segment: 16 for each register that its scores take."""
        return SEGMENT_PAGES * self.page_steps

    @property
    def phase_pages(self) -> int:
        """Pages whose scores are there before their softmax."""
        return SEGMENT_PAGES * self.schedule.phase_segments

    @property
    def phase_steps(self) -> int:
        """Steps of a phase."""
        return self.phase_pages * self.page_steps

    @property
    def phase_elements(self) -> int:
        """Scores of a query head in a phase."""
        return self.phase_pages * self.page_elements

    @property
    def score_registers(self) -> int:
        """Registers of one set of scores."""
        return self.heads * self.page_steps

    @property
    def context_register(self) -> int:
        """The first register of context: behind two sets of scores."""
        return 2 * self.score_registers

    @property
    def weight_entry(self) -> int:
        """The first operand entry of probabilities: behind two sets of queries."""
        return 2 * self.heads * self.passes

    @property
    def phase_entries(self) -> int:
        """Operand entries that the probabilities of a query head take in a phase."""
        return self.phase_steps // LANES

    @property
    def query_base(self) -> int:
        """Where the queries of a task begin in its region of base die memory."""
        return 0

    @property
    def score_base(self) -> int:
        """Where its scores begin, which become probabilities."""
        return self.heads * self.shape.padded

    @property
    def result_base(self) -> int:
        """Where its results begin."""
        return self.score_base + self.heads * self.phase_elements

    @property
    def state_base(self) -> int:
        """Where the largest score and the sum of each query head lie."""
        return self.result_base + self.heads * self.shape.padded

    @property
    def carry_base(self) -> int:
        """Where accumulators wait that are carried from one channel to the next."""
        return self.state_base + 2 * self.heads

    @property
    def carry_elements(self) -> int:
        """Elements of all accumulators of a query head's context."""
        return self.shape.slots * self.shape.padded

    @property
    def region(self) -> int:
        """Elements of base die memory that a task takes."""
        return self.carry_base + self.heads * self.carry_elements
