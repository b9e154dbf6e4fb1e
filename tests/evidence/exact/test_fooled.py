"""Whoever tries to fool a proof for all laws is refused, or seen to differ; and right decoders like them are proved."""

from __future__ import annotations

import pytest
from evidence.exact.fooling import RIGHT, WRONG

from specverify.decoders.registry import build
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.proof import prove

BOX = Box(2, 3, 2, drafts=True)


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_wrong_decoder_is_never_proved(name):
    found = prove(WRONG[name], BOX, seed=1)
    assert not found.proved
    assert found.why


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", sorted(RIGHT))
def test_a_right_decoder_like_it_is_proved(name):
    found = prove(RIGHT[name], BOX, seed=1)
    assert found.proved, found.why


class Counting:
    """A decoder that is wrong from a call on that a proof never comes to."""

    name = "counting"

    def __init__(self, settings, inside):
        self.inner, self.calls, self.inside = build("sd", settings), {"n": 0}, inside

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        counted = self.calls if self.inside else CALLS
        counted["n"] += 1
        assert counted["n"] < 10**6
        return self.inner.step(state, model, draws)


CALLS = {"n": 0}


@pytest.mark.parametrize(("inside", "where"), [(True, "Counting.calls"), (False, "CALLS")])
def test_who_keeps_count_of_calls_is_refused(inside, where):
    found = prove(lambda settings: Counting(settings, inside), BOX, seed=1)
    assert found.outcome == "out of reach"
    assert where in found.why
