"""Somebody's decoder that draws by races: proved over two tokens, and sampled over more."""

import re
from pathlib import Path

import pytest
import torch

from specverify.decoders import Branch, Info, begin, commit, registry
from specverify.rules.token import at
from specverify.subjects.decoder import judge_decoder
from specverify.verdict import Kind

pytestmark = pytest.mark.usefixtures("seldom_together")

QUICK = {"examples": 10, "toys": ("guided-2x5",)}


def test_a_right_decoder_that_draws_by_races_is_proved_for_two_tokens_and_sampled_for_more():
    judgement = judge_decoder(lambda settings: registry.build("ar-race", settings), name="ar-race", **QUICK)
    assert judgement.verdict.kind is Kind.CONSISTENT, judgement.verdict.reason
    assert judgement.verdict.reason.startswith("proved for every law of the target, zeros included: 2 tokens by")
    assert {proof["vocab"] for proof in judgement.certificate["runs"]} == {2}
    larger = [item.delta for item in judgement.evidence if not item.check.startswith("batches of ")]
    assert 2 == len(larger) < len(judgement.evidence)
    assert "Races over more than two tokens were sampled: samples agree in 2 checks" in judgement.verdict.reason
    assert f"total variation of sequences: {min(larger):.2g} to {max(larger):.2g})" in judgement.verdict.reason
    assert max(row["tv"] for row in judgement.exact if row["precision"] == "float64") <= 1e-12
    assert any("races" in line for line in judgement.not_covered)


@pytest.mark.parametrize(
    ("name", "kind"), [pytest.param("DECODER", Kind.CONSISTENT, marks=pytest.mark.slow), ("BROKEN", Kind.REFUTED)]
)
def test_the_example_of_races_is_judged_as_the_page_says(name, kind):
    example = Path(__file__).with_name("examples") / "matching.py"
    found = judge_decoder(f"{example}:{name}", **QUICK)
    assert found.verdict.kind is kind, found.verdict.reason
    said = "proved for every law of the target" if kind is Kind.CONSISTENT else "exact TV 1/18 from the target"
    assert found.verdict.reason.startswith(said)


class Twice:
    """A draft wins a race under the even law and is kept with min(1, V p); after a rejection the race is asked again.

    Over two tokens that is right, since the residual has one token only.
    """

    def init(self, model, batch, draws):
        return begin(model, batch)

    def step(self, state, model, draws):
        even = torch.full((len(state.length), 1, model.vocab), 1 / model.vocab, dtype=model.dtype)
        active = ~state.done[:, None]
        race = draws.race(*even.shape)
        draft, _ = draws.winner(race, even, active)
        laws = model.laws(state.context, draft)
        kept = draws.bernoulli((at(laws[:, :-1], draft) * model.vocab).clamp(max=1), active)
        left = torch.where(kept[..., None], even, (laws[:, :-1] - even).clamp(min=0))
        again, _ = draws.winner(race, left, active & ~kept)
        after, count = commit(state, model, torch.where(kept, draft, again), active[:, 0].long())
        branch = torch.where(kept, Branch.ACCEPTED, Branch.RECOVERED) * active
        none = count * 0
        return after, Info(count, count, (kept & active).sum(1), count, branch, none)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_race_that_is_asked_again_where_only_three_tokens_tell_is_refuted_by_samples(seed):
    found = judge_decoder(Twice(), seed=seed, **QUICK)
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    assert re.search(r"\(3 tokens: joint law \(g\), p = \S+ at n = 300,000", found.verdict.reason)
