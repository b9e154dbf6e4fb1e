"""A record of one run replays it exactly, and says so when it cannot."""

import pytest
import torch

from specverify.decoders import registry, run
from specverify.draws import Draws, Sampled
from specverify.enumerated import Enumerated
from specverify.errors import ContractError
from specverify.recorded import Recorded
from toymodels import draft, toy


def decoder(name, model, **settings):
    return registry.build(name, registry.Settings(draft_model=draft("perturbed", model), **settings))


@pytest.mark.thinned(4)
@pytest.mark.parametrize("toy_name", ["dense-3x6", "eos-3x6", "penalty-3x6"])
@pytest.mark.parametrize("name", registry.names("ids"))
def test_a_replayed_run_gives_the_same_sequences_and_totals(name, toy_name, seed):
    model = toy(toy_name)
    subject = decoder(name, model, window=3, initial="random")
    record = Recorded(Sampled(seed))
    first = run(subject, model, 64, record)
    again = run(subject, model, 64, Recorded(outcomes=record.outcomes))
    plain = run(subject, model, 64, Sampled(seed))
    for other in (again, plain):
        assert all(torch.equal(getattr(first, field), getattr(other, field)) for field in first.__dataclass_fields__)
    assert len(first.tokens.unique(dim=0)) > 5, "the record would replay onto anything"


def test_a_record_that_is_too_short_or_of_other_draws_is_refused(seed):
    model = toy("dense-3x6")
    record = Recorded(Sampled(seed))
    run(decoder("sjd", model), model, 4, record)
    with pytest.raises(
        ContractError, match=r"the record ends after 4 draws, but the decoder asked for another \(\w+\)"
    ):
        run(decoder("sjd", model), model, 4, Recorded(outcomes=record.outcomes[:4]))
    with pytest.raises(ContractError, match=r"draw 0 of the record is \w+, but the decoder asked for race"):
        run(decoder("scd-gs", model), model, 4, Recorded(outcomes=record.outcomes))


def test_a_recorded_run_is_still_checked():
    draws = Recorded(Sampled(0))
    draws.categorical(torch.zeros(1, 2), torch.ones(1, dtype=torch.bool))
    with pytest.raises(ContractError, match="all-zero probabilities"):
        draws.check()


@pytest.mark.parametrize("draws", [Sampled(0), Enumerated(1), Recorded(Sampled(0))], ids=lambda d: type(d).__name__)
def test_every_kind_of_draws_offers_all_draws_and_no_others(draws):
    assert isinstance(draws, Draws)
    with pytest.raises(AttributeError):
        _ = draws.multinomial
