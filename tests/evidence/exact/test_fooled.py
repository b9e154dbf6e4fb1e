"""Whoever tries to fool a proof for all laws is refused, or seen to differ; and right decoders like them are proved."""

from __future__ import annotations

import pytest
from evidence.exact.fooling import RIGHT, WRONG

from specverify.evidence.exact.proof import Box, prove

BOX = Box(2, 3, 2, drafts=True)


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_wrong_decoder_is_never_proved(name):
    found = prove(WRONG[name], BOX, seed=1)
    assert not found.proved
    assert found.why


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_a_right_decoder_like_it_is_proved(name):
    found = prove(RIGHT[name], BOX, seed=1)
    assert found.proved, found.why
