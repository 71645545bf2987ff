from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.backends.device import DeviceError
from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.drawing import MOST_SHARES, Cell, Share, kv_map
from tokenloom.backends.pim.geometry import StackGeometry
from tokenloom.backends.pim.layout import KvLayout
from tokenloom.backends.pim.stack import PimStack


def pim(name: str) -> PimStack:
    stack = load_machine(name).pim
    assert stack is not None
    return stack


def test_a_page_of_attacc_is_drawn_as_it_lies() -> None:
    drawn = kv_map(pim("attacc-hbm3"), 2, 128, 4096)
    assert (drawn.channels, drawn.banks, drawn.num_shares) == (80, 4, 2)
    assert drawn.slots[:5] == ("0.0.0", "0.0.1", "0.0.2", "0.0.3", "0.1.0")
    assert drawn.slots[8] == "1.0.0"
    assert len(drawn.cells) == 16 * 8
    assert drawn.cells[0] == Cell(0, 0, 0, "t0 d0-15")
    assert Cell(0, 3, 1, "t0 d112-127") in drawn.cells
    assert Cell(15, 2, 0, "t15 d32-47") in drawn.cells
    # 256 pages of 2 columns are 16 rows of 32 columns.
    assert drawn.shares == (
        Share(0, 0, "head 0, tokens 0 to 4095", 0, 15),
        Share(1, 1, "head 1, tokens 0 to 4095", 0, 15),
    )


def test_stripes_of_a_head_go_on_in_the_next_free_channel() -> None:
    drawn = kv_map(replace(pim("attacc-hbm3"), stripe_tokens=256), 2, 128, 600)
    assert [(share.channel, share.what) for share in drawn.shares] == [
        (0, "head 0, tokens 0 to 255"),
        (2, "head 0, tokens 256 to 511"),
        (4, "head 0, tokens 512 to 599"),
        (1, "head 1, tokens 0 to 255"),
        (3, "head 1, tokens 256 to 511"),
        (5, "head 1, tokens 512 to 599"),
    ]


def test_a_heterogeneous_stack_holds_keys_in_its_computing_sids_only() -> None:
    drawn = kv_map(pim("hbm4-het-1of4"), 1, 80, 3)
    assert drawn.slots == ("0.0.0", "0.0.1", "1.0.0", "1.0.1")
    assert {cell.what.split()[0] for cell in drawn.cells} == {"t0", "t1", "t2"}
    assert max(cell.bank for cell in drawn.cells) == 4
    assert any("of 8,192;" in fact for fact in drawn.facts)


@settings(deadline=None, max_examples=60)
@given(
    heads=st.integers(1, 9),
    head_dim=st.integers(1, 160),
    length=st.integers(1, 700),
    stripe=st.sampled_from([0, 16, 48, 256]),
)
def test_a_drawing_agrees_with_the_layout(
    heads: int, head_dim: int, length: int, stripe: int
) -> None:
    stack = replace(pim("this-host-pim"), channels=4, stripe_tokens=stripe)
    drawn = kv_map(stack, heads, head_dim, length)
    layout = KvLayout(
        StackGeometry.computing(stack), -(-length // 16), heads, head_dim, -(-stripe // 16)
    )
    tokens = 0
    for share in drawn.shares:
        first, last = map(int, share.what.split("tokens ")[1].split(" to "))
        pages = np.arange(first // 16, last // 16 + 1)
        channel, row, _ = layout.tile(pages, np.array(share.part))
        assert set(channel.tolist()) == {share.channel}
        assert (row.min(), row.max()) == (share.first_row, share.last_row)
        tokens += last - first + 1
    assert tokens == heads * length
    # No two cells share a column of a bank, and together they are all of the page.
    places = {(cell.slot, cell.bank, cell.column) for cell in drawn.cells}
    assert len(places) == len(drawn.cells) == min(16, length) * -(-head_dim // 16)


def test_only_so_many_shares_are_kept() -> None:
    drawn = kv_map(pim("attacc-hbm3"), 2000, 64, 16)
    assert (len(drawn.shares), drawn.num_shares) == (MOST_SHARES, 2000)


@pytest.mark.parametrize("stripe", [0, 256])
def test_a_sequence_that_does_not_fit_hears_how_much_does(stripe: int) -> None:
    stack = replace(pim("this-host-pim"), stripe_tokens=stripe)
    with pytest.raises(
        DeviceError, match=r"take .* rows in every bank, which has 2,048; "
    ) as error:
        kv_map(stack, 8, 128, 1 << 40)
    fits = int(str(error.value).split("; ")[1].split()[0].replace(",", ""))
    kv_map(stack, 8, 128, fits)
    with pytest.raises(DeviceError, match="tokens fit"):
        kv_map(stack, 8, 128, fits + 1)


def test_a_head_dimension_over_a_row_is_refused() -> None:
    with pytest.raises(DeviceError, match="takes 33 columns in each bank; a row has 32"):
        kv_map(pim("attacc-hbm3"), 1, 64 * 32 + 1, 16)


def test_without_computing_sids_there_is_nothing_to_draw() -> None:
    with pytest.raises(DeviceError, match="none of the 4 SIDs of the stack is computing"):
        kv_map(pim("hbm4-dense"), 1, 128, 16)
