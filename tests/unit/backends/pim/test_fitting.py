from __future__ import annotations

from dataclasses import replace

import pytest

from tokenloom.backends.device import DeviceError
from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.fitting import (
    check_attention,
    check_computes,
    tokens_that_fit,
)
from tokenloom.backends.pim.stack import LEVELS, PimStack


@pytest.fixture
def attacc() -> PimStack:
    """Five stacks of 16 GiB."""
    stack = load_machine("attacc-hbm3").pim
    assert stack is not None
    return stack


@pytest.mark.parametrize("level", LEVELS)
def test_one_head_a_channel_of_full_columns_fills_the_stack(attacc: PimStack, level: str) -> None:
    tokens = tokens_that_fit(attacc.at(level), 16, 128)
    assert 2 * 16 * tokens * 128 * 2 == 16 * 2**30
    assert tokens_that_fit(attacc.at(level), 17, 128) == tokens // 2
    assert tokens_that_fit(attacc.at(level), 16, 128, 1) == tokens * 2


def test_padded_dimensions_take_their_room(attacc: PimStack) -> None:
    assert tokens_that_fit(attacc, 16, 80) == tokens_that_fit(attacc, 16, 128)
    assert tokens_that_fit(attacc, 16, 64) == 2 * tokens_that_fit(attacc, 16, 128)


def test_keys_and_values_do_not_share_a_row(attacc: PimStack) -> None:
    assert tokens_that_fit(replace(attacc, pim_rows=2), 16, 128) == 32 // 2 * 16
    assert tokens_that_fit(replace(attacc, pim_rows=3), 16, 128) == 32 // 2 * 16


def test_one_token_too_many_is_refused_with_what_fits(attacc: PimStack) -> None:
    check_attention(attacc, 16, 16, 2_097_152, 128)
    with pytest.raises(DeviceError, match=r"16 GiB of one stack; at most 2,097,152 tokens do$"):
        check_attention(attacc, 16, 16, 2_097_153, 128)


def test_a_query_that_no_unit_has_room_for_is_refused(attacc: PimStack) -> None:
    check_attention(attacc, 1, 1, 1, 1984)
    with pytest.raises(DeviceError, match="2048 elements to a KV head need more than the 16 regis"):
        check_attention(attacc, 1, 1, 1, 2048)


def test_query_heads_share_kv_heads_evenly(attacc: PimStack) -> None:
    check_attention(attacc, 32, 8, 1, 128)
    with pytest.raises(DeviceError, match=r"^pim: 32 query heads cannot share 5 KV heads evenly"):
        check_attention(attacc, 32, 5, 1, 128)


def test_a_stack_without_units_is_refused(attacc: PimStack) -> None:
    with pytest.raises(DeviceError, match="no SID of this stack computes"):
        check_computes(replace(attacc, pim_sids=0))
