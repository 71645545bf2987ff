from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.banks import BankArrays
from tokenloom.backends.pim.geometry import StackGeometry, tile_local_map
from tokenloom.backends.pim.layout import PAGE_TOKENS, KvLayout
from tokenloom.backends.pim.stack import PimStack


@st.composite
def layouts(draw: st.DrawFn) -> KvLayout:
    sids = draw(st.integers(1, 3))
    sizes = (
        draw(st.integers(1, 2)),
        draw(st.integers(1, 4)),
        draw(st.integers(1, 2)),
        sids,
        draw(st.sampled_from([1, 2, 4])),
        draw(st.sampled_from([2, 4, 8])),
        64,
        32,
    )
    geometry = StackGeometry(sizes, draw(st.integers(1, sids)), 32, 16)
    kv_heads, head_dim = draw(st.integers(1, 4)), draw(st.sampled_from([8, 16, 40, 64, 80, 128]))
    stripe = draw(st.sampled_from([0, 1, 3, 16]))
    try:
        layout = KvLayout(geometry, draw(st.integers(1, 9)), kv_heads, head_dim, stripe)
    except DeviceError:  # one slot, two banks: sixteen tokens of 80 dimensions are too long a row
        layout = KvLayout(geometry, draw(st.integers(1, 9)), kv_heads, 16, stripe)
    return layout


def elements(layout: KvLayout) -> tuple[np.ndarray, ...]:
    shape = (layout.num_pages, layout.kv_heads, PAGE_TOKENS, layout.head_dim)
    return tuple(np.indices(shape))


@settings(deadline=None, max_examples=50)
@given(layout=layouts())
def test_no_two_elements_share_a_lane_and_all_fit(layout: KvLayout) -> None:
    place, lane = layout.place(*elements(layout))
    assert place.row.max() < layout.num_rows
    assert place.sid.max() < layout.geometry.pim_sids
    addresses = tile_local_map(layout.geometry).encode(place) + 2 * lane
    assert len(np.unique(addresses)) == addresses.size


@settings(deadline=None, max_examples=50)
@given(layout=layouts())
def test_scatter_puts_each_element_at_its_place_and_gather_finds_it(layout: KvLayout) -> None:
    banks = BankArrays(layout.geometry)
    rows = banks.allocate(layout.num_rows)
    slice_of_rows = banks.lanes[rows.start : rows.stop]
    page, head, token, dim = elements(layout)
    data = np.random.default_rng(0).standard_normal(page.shape).astype(np.float16)
    pages = np.arange(layout.num_pages)
    layout.scatter(slice_of_rows, pages, data)
    assert np.array_equal(layout.gather(slice_of_rows, pages), data)
    place, lane = layout.place(page, head, token, dim)
    columns = banks.read_columns(place).view(np.float16)
    assert np.array_equal(np.take_along_axis(columns, lane[..., None], -1)[..., 0], data)
    assert np.array_equal(layout.gather(slice_of_rows, pages[::-2]), data[::-2])


def test_a_page_of_64_dimensions_is_one_column_of_every_bank(stack: PimStack) -> None:
    layout = KvLayout(StackGeometry.of(stack), 64, 3, 64, 16)
    assert layout.tile_columns == 1
    place, _ = layout.place(*np.ix_([5], [1], range(16), range(64)))
    assert {len(np.unique(place.channel)), len(np.unique(place.column))} == {1}
    banks = place.bank + 4 * (place.bank_group + 4 * (place.sid + 2 * place.pseudo_channel))
    assert len(np.unique(banks)) == 64


def test_pages_of_a_stripe_share_a_channel_and_stripes_go_round(stack: PimStack) -> None:
    layout = KvLayout(StackGeometry.of(stack), 64, 1, 64, 16)
    channel, _, _ = layout.tile(np.arange(64), np.zeros(64, np.int64))
    assert channel.tolist() == [page // 16 for page in range(64)]


def test_a_page_that_does_not_fit_a_row_is_refused() -> None:
    geometry = StackGeometry((1, 1, 1, 1, 1, 2, 4, 32), 1, 32, 16)
    with pytest.raises(DeviceError, match="head dimension 80 takes 48 columns in each bank; a row"):
        KvLayout(geometry, 4, 2, 80, 0)
