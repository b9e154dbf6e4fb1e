from __future__ import annotations

import pytest

from specverify import defects
from specverify.claims import Lossless
from specverify.decoders import Decoder
from specverify.decoders.registry import Settings
from specverify.draws import Sampled
from specverify.errors import InputError
from toymodels import names, toy


def test_every_defect_and_control_has_its_own_name() -> None:
    assert len(set(defects.names())) == len(defects.names()) >= 35
    assert {name for name in defects.names() if not defects.get(name).lossy} >= {
        "sample-and-match",
        "one-hot-rule-with-any-draft",
        "bonus-dropped-on-full-accept",
    }


@pytest.mark.parametrize("name", defects.names())
def test_what_is_known_of_each(name: str) -> None:
    defect = defects.get(name)
    assert defect.id == name
    assert defect.source
    assert defect.mechanism.count(". ") == 0, "one sentence"
    assert defect.mechanism.endswith(".")
    assert defect.conditions
    assert defect.smallest.model in names()
    assert ("draft model" not in defect.needs) or defect.smallest.draft is not None
    decoder = defect.build(Settings(draft_model=toy("dense-3x6")))
    assert isinstance(decoder, Decoder)
    assert decoder.name == name
    assert decoder.claim == Lossless(), "all of them claim to be lossless; that is what makes them defects"


def test_unknown_names_bring_the_nearest_known_one() -> None:
    with pytest.raises(InputError, match="unknown defect 'recovered-from-p'; did you mean recovered-from-target"):
        defects.get("recovered-from-p")
    with pytest.raises(InputError, match="unknown defect 'zzz'; known: accept-all-prefix-count, "):
        defects.get("zzz")


def test_a_defect_of_the_draft_model_needs_one() -> None:
    with pytest.raises(InputError, match="'raw-q-for-processed-draw' drafts with a second model; give it one"):
        defects.get("raw-q-for-processed-draw").build(Settings())


def test_only_some_have_a_strength() -> None:
    with pytest.raises(InputError, match="'inverted-ratio' has no strength; leave it out"):
        defects.get("inverted-ratio").build(Settings(), strength=0.5)


def test_a_defect_of_a_state_needs_a_model_that_keeps_one() -> None:
    decoder = defects.get("cache-not-trimmed").build(Settings())
    with pytest.raises(InputError, match="model 'dense-3x6' keeps no `state` and `position`"):
        decoder.init(toy("dense-3x6"), 1, Sampled(0))
