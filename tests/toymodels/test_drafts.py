import pytest
import torch

from specverify.errors import InputError
from specverify.processors import Processed, parse_processors
from toymodels import TableModel, draft, names, tabulate, toy
from toymodels.catalogue import digest, enumerable
from toymodels.drafts import kinds

SMALL = [name for name in names() if enumerable(name)]


def tables(kind: str, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The target laws and the draft laws after every prefix."""
    target = toy(name)
    return tabulate(target).table, tabulate(draft(kind, target)).table


def overlap(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return torch.minimum(p, q).sum(-1)


def test_kinds():
    assert set(kinds()) == {"independent", "perturbed", "disjoint", "one-hot", "identical"}


@pytest.mark.thinned(20)
@pytest.mark.parametrize("name", [*SMALL, "markov-8x32", "hash-16x24"])
@pytest.mark.parametrize("kind", kinds())
def test_drafts_are_models_like_their_target(kind, name):
    target = toy(name, torch.float32)
    model = draft(kind, target)
    assert model.name == (name if kind == "identical" else f"{kind}:{name}")
    for attribute in ("vocab", "length", "eos", "dtype", "device"):
        assert getattr(model, attribute) == getattr(target, attribute)
    assert isinstance(model, TableModel) == (
        enumerable(name) and (kind != "identical" or isinstance(target, TableModel))
    )
    assert digest(model) == digest(draft(kind, toy(name, torch.float32)))


@pytest.mark.thinned(9)
@pytest.mark.parametrize("name", SMALL)
def test_independent_drafts_have_mass_everywhere_and_are_far_from_the_target(name):
    p, q = tables("independent", name)
    assert bool((q > 0).all())
    assert 0.1 < float(overlap(p, q).mean()) < 0.9
    assert q.tolist() != tables("independent", "dense-2x8")[1].tolist() or name == "dense-2x8"


@pytest.mark.thinned(9)
@pytest.mark.parametrize("name", SMALL)
def test_perturbed_drafts_are_half_the_target(name):
    p, q = tables("perturbed", name)
    noise = 2 * q - p
    assert float(noise.min()) > 0
    assert float((noise / p)[p > 0].min()) < 0.25, "more than half of the target is left in it"
    assert float(overlap(p, q).min()) >= 0.5
    assert float(overlap(p, q).mean()) < 0.9
    assert float((noise - tables("independent", name)[1]).abs().max()) > 0.1, "two kinds share their noise"


@pytest.mark.thinned(6)
@pytest.mark.parametrize("name", SMALL)
def test_disjoint_drafts_sit_where_the_target_does_not(name):
    p, q = tables("disjoint", name)
    least = p == p.amin(-1, keepdim=True)
    assert bool(((q > 0) == least).all())
    room = p.amin(-1) == 0
    assert bool((overlap(p, q)[room] == 0).all())
    if name.startswith(("sparse", "raster", "switch")):
        assert bool(room.all())


@pytest.mark.thinned(6)
@pytest.mark.parametrize("name", SMALL)
def test_one_hot_drafts_name_one_token_per_prefix(name):
    _, q = tables("one-hot", name)
    assert bool(((q == 1).sum(-1) == 1).all())
    assert bool(((q == 0).sum(-1) == q.shape[1] - 1).all())
    assert q.argmax(-1).unique().tolist() == list(range(q.shape[1]))


def test_an_identical_draft_is_the_target():
    target = toy("dense-3x6")
    assert draft("identical", target) is target


def test_drafts_of_long_targets_follow_the_same_rules():
    target = toy("hash-16x24")
    sequences = torch.randint(16, (30, 24), generator=torch.Generator().manual_seed(5))
    laws = {kind: (m := draft(kind, target)).laws(m.start(30), sequences[:, :-1]) for kind in kinds()}
    p = laws["identical"]
    assert torch.equal(p, target.laws(target.start(30), sequences[:, :-1]))
    assert bool(((laws["disjoint"] > 0) == (p == p.amin(-1, keepdim=True))).all())
    assert bool((laws["one-hot"].amax(-1) == 1).all())
    assert float(overlap(p, laws["perturbed"]).min()) >= 0.5
    assert float(overlap(p, laws["independent"]).mean()) < 0.6


def test_drafts_of_processed_targets_know_the_processed_law():
    target = Processed(toy("penalty-3x6"), parse_processors("top_k=2"))
    p, q = tabulate(target).table, tabulate(draft("disjoint", target)).table
    assert bool((p.amin(-1) == 0).all())
    assert float(overlap(p, q).max()) == 0


def test_unknown_kinds_are_refused():
    with pytest.raises(InputError, match=r"unknown draft model 'perturb'; did you mean perturbed\?"):
        draft("perturb", toy("dense-3x6"))
    with pytest.raises(InputError, match=r"unknown draft model 'x'; known: independent, one-hot, perturbed, dis"):
        draft("x", toy("dense-3x6"))
