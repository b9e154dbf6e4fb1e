"""Decoders of continuous tokens handed over: right ones pass, wrong ones are located, broken ones are told why."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy import special, stats

from specverify.batteries import vectors
from specverify.claims import Lossless, Relaxed
from specverify.deadline import Deadline
from specverify.decoders import registry
from specverify.decoders.continuous import (
    Autoregressive,
    Coupled,
    DraftModel,
    Jacobi,
    Reflection,
    Speculative,
    Surrogate,
    TokenRule,
)
from specverify.decoders.protocol import Info, begin, commit
from specverify.errors import InputError
from specverify.laws import Gaussian
from specverify.subjects import continuous_pool
from specverify.subjects.continuous import judge_continuous
from specverify.subjects.continuous_play import SMALL, play, play_small
from specverify.subjects.continuous_suite import SUITE
from specverify.subjects.here import judge_here
from specverify.subjects.isolation import judge_isolated
from specverify.verdict import Kind
from toymodels.continuous import toy
from toymodels.continuous_drafts import draft

QUICK = {"delta": 0.025, "toys": ["gauss-2x6"]}


def maker(name):
    def make(settings):
        return registry.build(name, settings)

    return make


@pytest.mark.slow
def test_a_decoder_as_it_is_and_what_makes_one():
    model = toy("gauss-2x6")
    ready = Speculative(DraftModel(draft("shifted", model)), 3, Reflection())

    def make(window, draft_model):
        return Speculative(DraftModel(draft_model), window, Reflection())

    for subject in (ready, make, Speculative(Jacobi(), 2), Autoregressive()):
        judgement = judge_continuous(subject, **QUICK)
        assert judgement.verdict.kind is Kind.CONSISTENT, judgement.verdict.reason
    everywhere = judge_continuous(ready, delta=0.1)
    assert everywhere.verdict.kind is Kind.CONSISTENT
    assert any("has dim 2, the target 'gauss-8x4' 8" in line for line in everywhere.not_covered)


@dataclass(frozen=True)
class Wrong:
    """Plain decoding, of two tokens in a step, with one coordinate moved and stretched.

    Args:
        position, dimension: which coordinate; None for all.
        slot: instead of a position, the place in a step.
        copies: whether odd rows use the noise of the row before.
        unsure: whether the second token is committed without the law that it should have.
    """

    position: int | None = None
    dimension: int | None = 0
    shift: float = 0.0
    spread: float = 1.0
    slot: int | None = None
    copies: bool = False
    unsure: bool = False
    name = "wrong"
    claim = Lossless()

    def init(self, model, batch, draws):
        return begin(model, batch)

    def step(self, state, model, draws):
        block = state.tokens[:, :0]
        for slot in (0, 1):
            laws = model.laws(state.context, block)
            law = Gaussian(laws.mean[:, -1], laws.scale[:, -1])
            noise = draws.normal(law.mean, torch.ones_like(law.mean, dtype=torch.bool))
            if self.copies:
                noise[1::2] = noise[: len(noise) // 2 * 2 : 2]
            hit = torch.ones_like(state.done) if self.position is None else state.length + slot == self.position
            if self.slot is not None:
                hit = torch.full_like(hit, slot == self.slot)
            part = slice(None) if self.dimension is None else slice(self.dimension, self.dimension + 1)
            moved = noise[:, part] * self.spread + self.shift
            noise[:, part] = torch.where(hit[:, None], moved, noise[:, part])
            block = torch.cat([block, law.colour(noise)[:, None].to(block.dtype)], 1)
            if self.unsure and slot == 0:
                block = block + 1
        if self.unsure:
            block = block - 1
        after, count = commit(state, model, block, torch.full_like(state.length, 2))
        none = torch.zeros_like(count)
        branch = (torch.arange(2) < count[:, None]).long()
        return after, Info(none + 2, none, none, count, branch, none)  # two passes: one for each token


@pytest.mark.parametrize(
    ("wrong", "position", "dimension", "said"),
    [
        (Wrong(2, 1, shift=0.3), 2, 1, r"too high by 0\.(2|3)\d* standard deviations"),
        (Wrong(5, 0, shift=-0.3), 5, 0, r"too low by 0\.(2|3)\d* standard deviations"),
        (Wrong(3, 0, spread=1.3), 3, 0, r"^1\.(2|3)\d* times as spread"),
        (Wrong(0, 1, spread=0.7), 0, 1, r"^0\.(6|7)\d* times as spread"),
    ],
)
def test_the_position_dimension_and_direction_of_a_defect_are_found(wrong, position, dimension, said):
    judgement = judge_continuous(wrong, **QUICK)
    assert judgement.verdict.kind is Kind.REFUTED
    found = judgement.location
    assert (found["position"], found["dimension"]) == (position, dimension)
    assert re.search(said, found["direction"]), found["direction"]
    assert [(row["position"], row["dimension"]) for row in found["coordinates"]] == [(position, dimension)]
    assert f"at position {position}, dimension {dimension} tokens are {found['direction']}" in judgement.verdict.reason


def test_the_slot_of_a_step_that_is_wrong_is_found():
    found = judge_continuous(Wrong(slot=1, shift=0.2), **QUICK).location
    first, second = found["slots"]
    assert first["p"] > 1e-6 > second["p"]
    assert second["direction"].startswith("too high by 0.")
    assert (first["slot"], second["slot"], first["tokens"]) == (0, 1, second["tokens"])


def test_copies_of_rows_are_found():
    judgement = judge_continuous(Wrong(copies=True), **QUICK)
    assert judgement.verdict.kind is Kind.REFUTED
    assert {"rows", "noise that comes again"} <= {row["check"] for row in judgement.location["pairs"]}


def test_a_row_of_one_place_is_told_from_the_others():
    model, generator = toy("gauss-1x6"), np.random.default_rng(3)
    small, _ = play_small(Autoregressive(), model, 1, Deadline(60))
    assert [tuple(tokens.shape[:2]) for tokens in small.values()] == [(n, size) for size, n in SMALL.items()]
    uniforms = generator.random((600 * 10, 6, 1))
    uniforms[3::10] = 0.1 + 0.8 * uniforms[3::10]
    alphas = dict.fromkeys(continuous_pool.NAMES, 1e-8)
    for due, rows in (({"rows at place 3"}, uniforms), (set(), generator.random((6000, 6, 1)))):
        part = continuous_pool.pooled("one", model, small, rows, [10] * 600)
        found = continuous_pool.checks([part], alphas, 1e-3)
        assert [item.check for item in found] == list(continuous_pool.NAMES)
        assert {item.check for item in found if item.rejected} == due
        assert all(re.match(r"tokens are 0\.\d+ times as spread", item.detail) for item in found if item.rejected)


def test_noise_that_comes_again_is_told_by_its_places_and_a_grid_by_its_most_frequent_value():
    generator = np.random.default_rng(4)
    tokens, alphas = torch.randn(4000, 2, 1, dtype=torch.float64), {vectors.AGAIN: 1e-6, "noise atoms": 1e-6}
    twice = generator.random((4000, 2, 1))
    twice[1::2, 1] = 1 - twice[0::2, 0]
    found = vectors.carry_out(tokens, twice, alphas, 1e-3, alphas)
    assert found[vectors.AGAIN].rejected
    assert "first: row 1, position 1 has that of row 0, position 0, or its negative" in found[vectors.AGAIN].detail
    assert not found["noise atoms"].rejected
    grid = special.ndtr(np.round(special.ndtri(generator.random((4000, 2, 1))) * 64) / 64)
    found = vectors.carry_out(tokens, grid, alphas, 1e-3, alphas)["noise atoms"]
    assert found.rejected
    size = float(re.search(r"size of noise is (\S+) standard", found.detail)[1])
    assert size * 64 == pytest.approx(round(size * 64), abs=0.05)


def test_a_discrepancy_of_delta_is_seen_and_one_of_a_tenth_of_it_passes():
    """Half of all coordinates are moved by s: the transforms' Kolmogorov distance is half of 2 Phi(s / 2) - 1."""
    for share, kind in ((1.0, Kind.REFUTED), (0.1, Kind.CONSISTENT)):
        shift = 2 * stats.norm.ppf(0.5 + share * QUICK["delta"])
        judgement = judge_continuous(Wrong(shift=shift), **QUICK)
        assert judgement.verdict.kind is kind, judgement.verdict.reason


def test_what_no_coordinate_shows_alone_is_said_of_all_tokens():
    judgement = judge_continuous(Wrong(dimension=None, shift=0.07), **QUICK)
    assert not next(item for item in judgement.evidence if item.check.endswith("coordinates")).rejected
    assert judgement.verdict.kind is Kind.REFUTED
    assert judgement.verdict.reason.startswith("gauss-2x6: tokens are too high by 0.")
    assert "position" not in judgement.location
    assert {row["slot"] for row in judgement.location["slots"]} == {0, 1}


@pytest.mark.thinned(2)
@pytest.mark.parametrize("kind", ["wider", "narrower"])
def test_cspd_is_refuted_where_it_is_said_to_be_lossless(kind):
    model = toy("chain-1x4")

    def make(window=2):
        drafts = DraftModel(draft(kind, model), 0.05, "cspd")
        return Speculative(drafts, window, Surrogate(), Relaxed(1.0), bonus=False)

    judgement = judge_continuous(make, Lossless(), delta=0.03, toys=["chain-1x4"])
    assert judgement.verdict.kind is Kind.REFUTED
    assert re.search("times as spread as is due", judgement.location["direction"])
    assert judge_continuous(make, delta=0.03, toys=["chain-1x4"]).verdict.kind is Kind.VACUOUS


def test_a_claim_of_a_distance_is_refuted_or_left_open():
    wrong = Wrong(2, 1, shift=1.0)  # a Kolmogorov distance of 0.38
    judgement = judge_continuous(wrong, Relaxed(0.2), **QUICK)
    assert judgement.verdict.kind is Kind.REFUTED
    assert "total variation at least 0.3" in judgement.verdict.reason
    assert judge_continuous(wrong, Relaxed(0.5), **QUICK).verdict.kind is Kind.INCONCLUSIVE
    assert judge_continuous(replace(wrong, shift=0.0), Relaxed(0.5), **QUICK).verdict.kind is Kind.INCONCLUSIVE


class Lenient(TokenRule):
    """Keeps one of fifty drafts that are to be rejected, which matters where they are far off."""

    def couple(self, p, q, draft, draws, where):
        found = super().couple(p, q, draft, draws, where)
        kept = draws.bernoulli(torch.full(where.shape, 0.02, dtype=draft.dtype), where & ~found.kept)
        return Coupled(torch.where(kept[..., None], draft, found.value), found.kept | kept)


def lenient(draft_model, window=2):
    return Speculative(DraftModel(draft_model), window, Lenient())


@pytest.mark.slow
def test_drafts_that_are_kept_however_far_they_are_off_are_refuted_early():
    first = SUITE[0]
    assert first.draft == "disjoint"
    judgement = judge_continuous(lenient, toys=["gauss-1x6"], seconds=20)
    assert judgement.verdict.kind is Kind.REFUTED
    assert judgement.verdict.reason.startswith(str(first))


def test_drafts_that_are_never_rejected_are_vacuous():
    model = toy("gauss-2x6")
    judgement = judge_continuous(Speculative(DraftModel(model), 3, TokenRule()), **QUICK)
    assert judgement.verdict.kind is Kind.VACUOUS
    assert judgement.verdict.reason == "no draft token was rejected, so the residual was never drawn"


def test_tokens_that_no_forward_pass_has_seen_are_told_of():
    judgement = judge_continuous(Wrong(unsure=True), **QUICK)
    assert judgement.verdict.kind is Kind.ERROR
    assert "a cache would hold " in judgement.verdict.reason


def test_time_that_is_up_and_toys_that_are_not_taken():
    early = judge_continuous(maker("sd"), delta=0.1, seconds=1e-9)
    assert early.verdict.kind is Kind.ERROR
    assert early.verdict.reason == "it was judged on no toy; the time was up"

    def none(settings):
        raise InputError("not today")

    judgement = judge_continuous(none, **QUICK)
    assert judgement.verdict.kind is Kind.ERROR
    assert judgement.verdict.reason == "it was judged on no toy; it says not today"


def test_a_toy_that_is_not_finished_in_time_is_no_pass(monkeypatch):
    """Time is over after the second look at it: the first to begin a toy, the second behind its first batch."""
    looks = iter([False, True])
    monkeypatch.setattr("specverify.deadline.Deadline.over", property(lambda self: next(looks, True)))
    judgement = judge_continuous(maker("sd"), delta=0.03)
    assert judgement.verdict.kind is Kind.INCONCLUSIVE
    assert judgement.verdict.reason.startswith("gauss-1x6/disjoint/w2: the time was up after 128 of ")


def test_one_that_is_judged_in_few_settings_has_no_answer_and_is_told_how_long_it_takes(monkeypatch):
    """It was consistent by one dimension and a window of one."""
    asked = iter([False] * 40)
    monkeypatch.setattr("specverify.deadline.Deadline.over", property(lambda self: next(asked, True)))
    judgement = judge_continuous(maker("sd"), delta=0.2)
    assert judgement.verdict.kind is Kind.INCONCLUSIVE
    found = re.match(r"the time was up for (\d+) settings \(some (\d+) seconds would do for all\); it was judged on "
                     r"(\d+) setting", judgement.verdict.reason)  # fmt: skip
    assert found, judgement.verdict.reason
    missed, seconds, judged = map(int, found.groups())
    assert missed + judged == len(SUITE)
    assert seconds >= 60 * len(SUITE) / judged


def test_the_slots_and_bills_of_a_run():
    model = toy("gauss-2x6")
    played = play(registry.build("sd", registry.Settings(2, draft_model=draft("shifted", model))), model, 300, 0)
    assert played.tokens.shape == (300, 6, 2)
    assert set(played.slot.unique().tolist()) == {0, 1, 2}
    assert bool((played.slot[:, 0] == 0).all())
    assert 0 < played.accepted < played.verified


FILE = '''
from specverify.decoders.continuous import DraftModel, Reflection, Speculative, TokenRule

def good(window, draft_model):
    return Speculative(DraftModel(draft_model), window, TokenRule())

class Drafts:
    """Keeps every draft."""
    name, bias = "all", 0.0
    view = TokenRule().view
    def couple(self, p, q, draft, draws, where):
        from specverify.decoders.continuous import Coupled
        return Coupled(draft, where)

def bad(window, draft_model):
    return Speculative(DraftModel(draft_model), window, Drafts())
'''


@pytest.mark.slow
def test_in_a_process_of_its_own(tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    reference = f"{tmp_path}/mine.py"
    good = judge_isolated(f"{reference}:good", "continuous", options={"delta": 0.1})
    assert good.verdict.kind is Kind.CONSISTENT, good.verdict.reason
    assert good.reproduce.endswith("mine.py:good --level decoder --seed 0 --seconds 60 --delta 0.1")
    bad = judge_isolated(f"{reference}:bad", "continuous", options={"delta": 0.1})
    assert bad.verdict.kind is Kind.REFUTED
    assert bad.location["setting"].startswith("gauss-1x6")
    with pytest.raises(InputError, match="at level decoder a subject is an object with `init"):
        judge_here(3, "continuous")
