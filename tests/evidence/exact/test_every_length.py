"""What carries Jacobi decoding from one step to the next: the draft has the law that is recorded beside it.

A step is right whatever it begins with, as long as each draft, given the committed tokens, the recorded laws up to its
slot's and the drafts before it, has its slot's law (`decoders/jacobi.py` says why). So this is what has to hold behind
every step for a decoder to be right at every length; here it is looked at in all states of proofs, for every law.
"""

from collections import defaultdict

import pytest
import torch

from specverify.decoders.registry import build
from specverify.defects import registry as defects
from specverify.evidence.exact import follow
from specverify.evidence.exact.proof import Box, prove


@pytest.fixture
def seen(monkeypatch):
    """Every run's numbers, and the places that it went through, each of one state."""
    found = []

    class Noting(follow._Following):
        def _resolve(self, states, places, weight):
            found.extend((self.numbers, place) for place in places if place.state is not None)
            super()._resolve(states, places, weight)

    monkeypatch.setattr(follow, "_Following", Noting)
    return found


def drafts(seen):
    """By what is looked at before a slot is judged: its law's residues, and the weight of each draft."""
    laws, weights = {}, defaultdict(lambda: defaultdict(int))
    for numbers, place in seen:
        state, _ = place.state
        carried = state.drafting
        committed = tuple(state.tokens[0, : int(state.length)].tolist())
        names = carried.law.as_subclass(torch.Tensor)[0].tolist()
        tokens = carried.token[0].tolist()
        for slot in range(int(carried.count)):
            before = (committed, *map(tuple, names[: slot + 1]), tuple(tokens[:slot]))
            laws[before] = [numbers.residue[name] for name in names[slot]]
            weights[before][tokens[slot]] += place.weight
    return laws, weights


def kept(seen):
    """Whether every draft has its law, and of how many places drafts were looked at."""
    prime = seen[0][0].field.prime
    laws, weights = drafts(seen)
    for before, law in laws.items():
        total = sum(weights[before].values())
        if any((weights[before][token] - total * chance) % prime for token, chance in enumerate(law)):
            return False, len(laws)
    return True, len(laws)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("sizes", [(2, 6, 2), (3, 4, 1), (2, 5, 3)], ids=str)
@pytest.mark.parametrize("initial", ["repeat-left", "random"])
def test_every_draft_has_the_law_beside_it(seen, initial, sizes):
    """At (2, 6, 2) three whole steps follow each other, in every way in which drafts can be kept."""
    box = Box(*sizes, initial=None if initial == "repeat-left" else initial)
    assert prove(lambda settings: build("scd-mc", settings), box).proved
    holds, places = kept(seen)
    assert holds
    assert places > 40


@pytest.mark.parametrize("sizes", [(2, 5, 2), (2, 4, 3)], ids=str)
def test_so_has_every_draft_from_the_noise_of_its_position(seen, sizes):
    assert prove(lambda settings: build("scd-gs", settings), Box(*sizes)).proved
    holds, places = kept(seen)
    assert holds
    assert places > 20


def test_drafts_that_are_drawn_when_they_are_needed_are_none_that_could_have_another(seen):
    """Plain Jacobi decoding carries laws alone, from which the next window is drawn."""
    assert prove(lambda settings: build("sjd", settings), Box(2, 6, 2)).proved
    assert not any(place.state[0].drafting.token.any() for _, place in seen)
    assert len(seen) > 40


@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("stale-scores-after-coupling", Box(2, 5, 2)),
        pytest.param("race-not-shifted", Box(2, 4, 3), marks=pytest.mark.slow),
    ],
)
def test_it_fails_where_scores_are_stale_or_noise_is_met_again(seen, name, box):
    """SCD as released keeps the law that a draft had before it was coupled."""
    found = prove(defects.get(name).build, box)
    assert found.outcome == "differs"
    holds, places = kept(seen)
    assert not holds
    assert places > 40
