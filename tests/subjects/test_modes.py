"""In which ways a decoder is run: those too that only long sequences show, and ends that are the first id."""

from __future__ import annotations

from dataclasses import replace

import pytest

from specverify.claims import Lossless
from specverify.decoders import DraftModel, Speculative
from specverify.decoders.protocol import begin
from specverify.decoders.registry import Settings, build
from specverify.defects.defect import Judge
from specverify.errors import InputError
from specverify.evidence.exact.proof import prove
from specverify.evidence.search import SMALL
from specverify.rules.token import accept_probability, residual
from specverify.subjects.decoder import judge_decoder
from specverify.subjects.factory import as_factory
from specverify.subjects.for_all import LENGTH, _needed, for_all
from specverify.subjects.modes import find_modes
from specverify.verdict import Kind

pytestmark = pytest.mark.usefixtures("seldom_together")

SHORT = 8
QUICK = {"examples": 10, "toys": ("dense-2x8",)}


class Either:
    """Two decoders: one for short sequences, or for two tokens alone, and one for the others."""

    claim = Lossless()

    def __init__(self, small, other, is_small=lambda model: model.length < SHORT):
        self.small, self.other, self.is_small, self.name = small, other, is_small, "either"

    def _of(self, model):
        return self.small if self.is_small(model) else self.other

    def init(self, model, batch, draws):
        return self._of(model).init(model, batch, draws)

    def step(self, state, model, draws):
        return self._of(model).step(state, model, draws)


def replaced_from(law):
    def made(window, draft_model=None):
        plain = build("ar", Settings(window))
        if draft_model is None:
            return plain
        return Either(plain, Speculative(DraftModel(draft_model), window, Judge(accept_probability, law)))

    return made


def two_tokens(model):
    return model.vocab == 2


def wide_if_long(window, draft_model):
    wide, narrow = (Speculative(DraftModel(draft_model), width) for width in (window, 2))
    return Either(narrow, wide)


def wide_at_three(window, draft_model):
    wide, narrow = (Speculative(DraftModel(draft_model), width) for width in (window, 2))
    return Either(narrow, wide, two_tokens)


def drafted_at_three(window, draft_model=None):
    plain = build("ar", Settings(window))
    return plain if draft_model is None else Either(plain, Speculative(DraftModel(draft_model), window), two_tokens)


def begun_at_three(window, initial):
    plain, asked = (build("sjd", Settings(window, initial=first)) for first in ("repeat-left", initial))
    return Either(plain, asked, two_tokens)


def for_long_alone(window, draft_model=None):
    if draft_model is None:
        return build("ar", Settings(window))
    if draft_model.length < 4:
        raise InputError("sequences are too short for a draft model")
    return Speculative(DraftModel(draft_model), window)


def without_drafts(window, draft_model=None):
    if draft_model is not None:
        raise InputError("no draft model fits")
    return build("sjd", Settings(window))


class Without:
    """A model whose end is gone if it is id 0."""

    def __init__(self, inner):
        self.inner, self.eos = inner, inner.eos or None

    def __getattr__(self, name):
        return getattr(self.inner, name)


class Endless(Speculative):
    """Takes an end that is id 0 for none, as `if model.eos:` does."""

    def init(self, model, batch, draws):
        return begin(Without(model), batch, self.drafting.start(Without(model), batch, self.window, draws))

    def step(self, state, model, draws):
        return super().step(state, Without(model), draws)


def endless(window=2):
    return Endless(build("sjd", Settings(window)).drafting, window)


def test_a_draft_model_that_is_asked_in_long_sequences_only_is_judged():
    modes = find_modes(as_factory(replaced_from(lambda p, q, draft: residual(p, q))), Lossless(), SMALL, 0)
    assert [(mode.drafts, mode.late) for mode in modes] == [(False, False), (True, True)]
    found = for_all(as_factory(replaced_from(lambda p, q, draft: residual(p, q))), modes, 0)
    assert not found.proved
    assert "on larger models alone" in found.why


@pytest.mark.slow
def test_one_that_is_asked_wrongly_there_is_refuted():
    wrong = judge_decoder(replaced_from(lambda p, q, draft: p), **QUICK)
    assert wrong.verdict.kind is Kind.REFUTED


def wrong_at_ends_inside(window, draft_model):
    right, wrong = (
        Speculative(DraftModel(draft_model), window, *more)
        for more in ((), (Judge(accept_probability, lambda p, q, draft: p),))
    )
    return Either(right, wrong, lambda model: model.eos in (None, 0, model.vocab - 1))


def test_an_end_that_is_neither_the_first_id_nor_the_last_is_tried():
    found = judge_decoder(wrong_at_ends_inside, **QUICK)
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    assert "with 3 tokens" in found.verdict.reason


@pytest.mark.thinned(2)
@pytest.mark.parametrize("subject", [wide_if_long, wide_at_three])
def test_windows_that_only_larger_models_show_are_varied(subject):
    (mode,) = find_modes(as_factory(subject), Lossless(), SMALL, 0)
    assert mode.windows == (1, 2, 3)
    assert mode.late


def test_initial_drafts_that_matter_at_three_tokens_alone_are_varied():
    (mode,) = find_modes(as_factory(begun_at_three), Lossless(), SMALL, 0)
    assert {"repeat-left", "random"} <= set(mode.initials)
    assert mode.late


def test_a_draft_model_that_is_asked_at_three_tokens_alone_is_judged():
    modes = find_modes(as_factory(drafted_at_three), Lossless(), SMALL, 0)
    assert [(mode.drafts, mode.late) for mode in modes] == [(False, False), (True, True)]


def test_a_draft_model_that_is_refused_for_short_sequences_is_judged_with_longer_ones():
    modes = find_modes(as_factory(for_long_alone), Lossless(), SMALL, 0)
    assert [mode.drafts for mode in modes] == [False, True]
    assert min(model.length for model in modes[1].tiny) >= 4


def test_a_draft_model_that_is_refused_everywhere_is_said():
    (mode,) = find_modes(as_factory(without_drafts), Lossless(), SMALL, 0)
    assert any("with a draft model: it says no draft model fits" in said for said in mode.refused)


def test_boxes_end_with_the_last_id_and_with_the_first():
    (mode,) = find_modes(as_factory(endless), Lossless(), SMALL, 0)
    boxes = list(_needed(mode))
    assert {box.eos for box in boxes} == {None, 0, 1}
    assert all(box.length == LENGTH for box in boxes)
    first = next(box for box in boxes if box.eos == 0)
    assert prove(as_factory(endless).build, replace(first, eos=1)).proved
    assert not prove(as_factory(endless).build, first).proved


@pytest.mark.slow
def test_an_end_that_is_taken_for_none_is_refuted():
    assert judge_decoder(endless, seconds=30).verdict.kind in (Kind.REFUTED, Kind.ERROR)
