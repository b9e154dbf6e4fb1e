"""Tokens under the laws of the passes that judged them."""

from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from specverify import defects
from specverify.batteries import traces
from specverify.decoders import registry, sample
from specverify.errors import ContractError
from specverify.evidence import as_judged
from specverify.evidence.as_judged import AsJudged
from specverify.evidence.copies import halves
from specverify.evidence.ids import Groups
from specverify.evidence.tokens import TokenStatistics, reduce, traced
from toymodels import toy
from toymodels.tables import TableModel, prefixes

RATES = dict.fromkeys(traces.SAMPLED, 1e-4)


def table(vocab, length, seed, eos=None):
    rows = torch.rand(prefixes(vocab, length), vocab, generator=torch.Generator().manual_seed(seed)).double() + 0.05
    return TableModel("any", rows / rows.sum(-1, keepdim=True), length, eos=eos)


class BySlot:
    """A model whose law moves towards the uniform one, slot by slot of a window: rounding, writ large."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def laws(self, context, draft):
        laws = self.inner.laws(context, draft)
        share = (torch.arange(laws.shape[1]) / (2.0 * laws.shape[1]))[:, None].to(laws)
        return (1 - share) * laws + share / laws.shape[-1]


def decoder(name, window=3):
    return registry.build(name, registry.Settings(window=window, initial="repeat-left"))


def judged(name, model, n, seed, batch=50, window=3):
    found = AsJudged(decoder(name, window), model, n, np.random.default_rng(seed))
    return found, sample(found, model, n, seed, batch)


@pytest.mark.parametrize("name", ["ar", "sjd", "scd-mc", "scd-gs"])
@pytest.mark.parametrize("eos", [None, 2])
def test_where_windows_are_single_tokens_all_is_as_read_again(name, eos, seed):
    model = table(3, 5, seed, eos)
    found, run = judged(name, model, 120, seed)
    assert torch.equal(run.tokens, sample(decoder(name), model, 120, seed, 50).tokens)
    came = run.branch > 0
    groups = Groups(run.tokens, model.vocab, came)
    mine, due = found.statistics(), traced(model, run.tokens, 50, np.random.default_rng(0), groups)
    for field in fields(TokenStatistics):
        if field.name != "pit":
            each, other = (getattr(one, field.name) for one in (mine, due))
            torch.testing.assert_close(each[came], other[came], rtol=1e-9, atol=1e-9)
            assert not bool(each[~came].any()), "nothing is left behind an end"
    assert bool(((mine.pit > 0) & (mine.pit < 1)).all())
    for name in ("blocks", "classes", "again"):
        for one, two in zip(getattr(found.groups, name), getattr(groups, name), strict=True):
            np.testing.assert_allclose(one.log_e(), two.log_e(), atol=1e-9)
    assert found.groups.size == groups.size == int(came.sum())
    apart = found.apart(run.tokens)
    assert apart.largest < 1e-12
    assert apart.rows == 50
    assert apart.laws == int((run.branch[:50] > 0).sum())
    if eos is None:
        assert apart.laws == 250


def test_a_right_decoder_is_right_by_its_own_laws_and_not_by_those_of_single_tokens(seed):
    model = BySlot(toy("hash-16x24"))
    found, run = judged("scd-mc", model, 2000, seed, batch=500, window=8)
    own = traces.carry_out(traces.Traced(found.statistics()), RATES, 0.05)
    assert not [each.check for each in own if each.rejected]
    alone = traced(model.inner, run.tokens, 500, np.random.default_rng(0))
    plain = traces.carry_out(traces.Traced(alone), RATES, 0.05)
    assert [each.check for each in plain if each.rejected]


def test_a_wrong_decoder_is_wrong_by_its_own_laws_too(seed):
    model = BySlot(toy("hash-16x24"))
    wrong = defects.get("recovered-from-target").build(registry.Settings(window=8, initial="repeat-left"))
    found = AsJudged(wrong, model, 2000, np.random.default_rng(seed))
    sample(found, model, 2000, seed, 500)
    own = traces.carry_out(traces.Traced(found.statistics()), RATES, 0.05)
    assert [each.check for each in own if each.rejected]


def test_how_far_its_laws_are_from_single_tokens_is_measured(seed, monkeypatch):
    model = BySlot(table(3, 4, seed))
    found, run = judged("sjd", model, 40, seed, window=2)
    apart = found.apart(run.tokens)
    assert (apart.rows, apart.laws) == (40, 160)
    assert 0.001 < apart.mean < apart.largest < 0.5
    for room, rows, laws in ((48, 4, 16), (6, 1, 2)):  # four sequences; every other position of one
        monkeypatch.setattr(as_judged, "LAWS", room)
        few, again = judged("sjd", model, 40, seed, window=2)
        apart = few.apart(again.tokens)
        assert (apart.rows, apart.laws) == (rows, laws)
        each = (few._laws - found._laws[:rows, :: 4 // few._laws.shape[1]]).abs().max()
        assert float(each) == 0
    plain, run = judged("ar", model, 40, seed)
    assert plain.apart(run.tokens).largest == 0


class Commits:
    """scd-mc, but that its step is changed."""

    name, claim = "changed", decoder("sjd").claim

    def __init__(self, step):
        self.inner, self.change = decoder("sjd"), step

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        return self.change(self.inner, state, model, draws)


def other_tokens(inner, state, model, draws):
    after, info = inner.step(state, model, draws)
    return replace(after, tokens=(after.tokens + 1) % model.vocab), info


def two_passes(inner, state, model, draws):
    model.laws(state.context, state.tokens[:, :0])
    return inner.step(state, model, draws)


def no_pass(inner, state, model, draws):
    return inner.step(state, model.inner, draws)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (other_tokens, "behind others than it showed"),
        (two_passes, "called the model 2 times in a step"),
        (no_pass, "called the model 0 times in a step"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_remedy(step, said):
    model = table(4, 6, 1)
    with pytest.raises(ContractError, match=rf"changed .*{said}.*--dtype float32"):
        sample(AsJudged(Commits(step), model, 200, np.random.default_rng(0)), model, 200, 0)


def test_the_statistics_of_one_token_are_those_that_reduce_gives():
    law = torch.tensor([[[0.5, 0.25, 0.25]]], dtype=torch.float64)
    model = TableModel("one", law[0], 1)
    found, run = judged("ar", model, 4, 0)
    due = reduce(law.expand(4, 1, 3), run.tokens, np.random.default_rng(0))
    assert torch.equal(found.statistics().surprisal, due.surprisal)
    assert torch.equal(found.statistics().pit, due.pit)


class _Moved:
    """A model that gives all of one id's mass to the next one's."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def laws(self, context, draft):
        laws = self.inner.laws(context, draft).clone()
        laws[..., 5] += laws[..., 4]
        laws[..., 4] = 0
        return laws


def test_an_id_that_never_comes_is_seen_under_laws_that_depend_on_the_window():
    model, right = BySlot(toy("hash-16x24")), decoder("sjd")
    wrong = SimpleNamespace(
        name="wrong",
        claim=right.claim,
        init=right.init,
        step=lambda state, inner, draws: right.step(state, _Moved(inner), draws),
    )
    for judging in (right, wrong):
        found = AsJudged(judging, model, 400, np.random.default_rng(1))
        run = sample(found, model, 400, 1, 100)
        trace = traces.Traced(found.statistics(), runs=halves(run.tokens), groups=found.groups)
        evidence = {item.check: item for item in traces.carry_out(trace, RATES, 1e-3)}
        assert evidence["ids"].rejected is (judging is wrong)
    assert evidence["ids"].detail.startswith("id 4: 0 came, ")
