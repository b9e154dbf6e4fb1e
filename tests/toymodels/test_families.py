"""Each family against its definition, written again in Python integers over whole prefixes, and its properties."""

import itertools

import pytest
import torch

from specverify.processors import Guided
from tests.toymodels.definitions import definition, fold, hashed
from toymodels import names, tabulate, toy
from toymodels.catalogue import enumerable

SMALL = [name for name in names() if enumerable(name) and not name.startswith("guided")]
GUIDED = [name for name in names() if name.startswith("guided")]


def all_prefixes(model) -> list[tuple[int, ...]]:
    return [s for n in range(model.length) for s in itertools.product(range(model.vocab), repeat=n)]


def laws_by_prefix(name: str) -> dict[tuple[int, ...], list[float]]:
    """The law after every prefix, through one forward pass over every sequence."""
    model = toy(name)
    sequences = torch.tensor(list(itertools.product(range(model.vocab), repeat=model.length)))
    laws = model.laws(model.start(len(sequences)), sequences[:, :-1]).tolist()
    return {tuple(s[:n]): laws[row][n] for row, s in enumerate(sequences.tolist()) for n in range(model.length)}


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", SMALL)
def test_laws_are_those_of_the_definition(name):
    model = toy(name)
    expected = [definition(name, model.vocab, prefix) for prefix in all_prefixes(model)]
    assert tabulate(model).table.tolist() == expected
    assert list(laws_by_prefix(name).values()) != []
    assert laws_by_prefix(name) == dict(zip(all_prefixes(model), expected, strict=True))


@pytest.mark.parametrize("name", GUIDED)
def test_guided_laws_are_those_of_two_laws_over_the_whole_prefix(name):
    model = toy(name)
    table = tabulate(model).table
    for row, prefix in zip(table.tolist(), all_prefixes(model), strict=True):
        c, u = (
            [2 + (fold(hashed(hashed(0, f"{name}/{branch}".encode()), prefix), v) >> 61) for v in range(model.vocab)]
            for branch in ("conditional", "unconditional")
        )
        odds = [(x / sum(c)) ** 2.5 * (y / sum(u)) ** -1.5 for x, y in zip(c, u, strict=True)]
        assert row == pytest.approx([x / sum(odds) for x in odds], rel=1e-12)


@pytest.mark.parametrize("name", GUIDED)
def test_the_unconditional_branch_has_a_history_of_its_own(name):
    """Fed the last token alone, or another row's tokens, it says something else: guidance shows it."""
    model = toy(name)
    assert isinstance(model, Guided)
    assert model.scale == 2.5
    both, ones = torch.tensor([[1, 0, 1], [0, 0, 1]]), torch.tensor([3, 3])
    right = model.advance(model.start(2), both, ones)
    last = model.unconditional.advance(model.unconditional.start(2), both[:, 2:], torch.ones_like(ones))
    none = both[:, :0]
    laws = model.laws(right, none)
    assert float((laws - model.laws((right[0], last), none)).abs().max()) > 0.05
    other = model.unconditional.advance(model.unconditional.start(2), both.flip(0), ones)
    assert float((laws - model.laws((right[0], other), none)).abs().max()) > 0.05


@pytest.mark.parametrize("name", [name for name in names() if not enumerable(name)])
def test_laws_of_long_toys_are_those_of_the_definition(name):
    model = toy(name)
    sequences = torch.randint(model.vocab, (20, model.length), generator=torch.Generator().manual_seed(2))
    laws = model.laws(model.start(20), sequences[:, :-1])
    for row, sequence in enumerate(sequences.tolist()):
        for n in range(model.length):
            assert laws[row, n].tolist() == definition(name, model.vocab, tuple(sequence[:n]))


@pytest.mark.parametrize("name", names())
def test_id_0_has_mass_everywhere_but_where_a_mask_is_the_point(name):
    model = toy(name)
    sequences = torch.randint(model.vocab, (500, model.length), generator=torch.Generator().manual_seed(3))
    laws = model.laws(model.start(500), sequences[:, :-1])
    masked = name.split("-")[0] in {"sparse", "raster", "eos", "switch"}
    assert bool((laws[..., 0] == 0).any()) == masked


@pytest.mark.parametrize("name", ["dense-3x6", "dense-4x6", "dense-8x3", "window-3x6", "hash-16x24", "synonyms-4x5"])
def test_laws_of_different_contexts_are_far_apart(name):
    model = toy(name)
    sequences = torch.randint(model.vocab, (400, model.length), generator=torch.Generator().manual_seed(4))
    last = model.laws(model.start(400), sequences[:, :-1])[:, -1]
    distance = (last[:200] - last[200:]).abs().sum(-1) / 2
    assert float(distance.mean()) > 0.3


@pytest.mark.parametrize("name", ["sparse-3x5", "sparse-4x5"])
def test_sparse_laws_hold_exact_zeros_in_different_places(name):
    supports = tabulate(toy(name)).table > 0
    assert bool((supports.sum(-1) < supports.shape[1]).all())
    assert bool((supports.sum(-1) > 1).any())
    assert len(supports.unique(dim=0)) > supports.shape[1]


def test_ties_hold_equal_probabilities_at_the_top_and_below_it():
    ordered = tabulate(toy("ties-3x5")).table.sort(dim=-1).values
    below, top = ordered[:, 0] == ordered[:, 1], ordered[:, 1] == ordered[:, 2]
    assert bool((below | top).all())
    assert bool((below & ~top).any())
    assert bool((top & ~below).any())


def test_sharp_laws_give_one_token_more_than_99_percent():
    table = tabulate(toy("sharp-3x6")).table
    assert float(table.amax(-1).min()) > 0.99
    assert bool((table > 0).all())
    assert sorted(table.argmax(-1).unique().tolist()) == [0, 1, 2]


def test_skew_grows_with_the_id_and_with_the_position():
    laws = laws_by_prefix("skew-3x5")
    assert all(law[0] < law[1] < law[2] for law in laws.values())
    means = [sum(law[2] for s, law in laws.items() if len(s) == n) / 3**n for n in range(5)]
    assert means == sorted(means)


def test_zero_is_the_most_probable_token_everywhere():
    table = tabulate(toy("zero-3x5")).table
    assert bool((table[:, :1] > table[:, 1:]).all())


@pytest.mark.parametrize(("name", "span"), [("markov-3x6", 1), ("window-3x6", 3)])
def test_only_the_last_tokens_matter_and_all_of_them_do(name, span):
    laws = laws_by_prefix(name)
    by_tail = {}
    for s, law in laws.items():
        if len(s) >= span:
            by_tail.setdefault(s[-span:], []).append(law)
    assert all(law == group[0] for group in by_tail.values() for law in group)
    for slot in range(span):
        ignoring = {}
        for tail, group in by_tail.items():
            ignoring.setdefault(tail[:slot] + tail[slot + 1 :], set()).add(tuple(group[0]))
        assert any(len(laws_) > 1 for laws_ in ignoring.values())


def test_raster_rows_end_where_they_must_and_pixels_look_left_and_up():
    laws = laws_by_prefix("raster-4x6")
    for s, law in laws.items():
        assert law[3] == (1 if len(s) % 3 == 2 else 0)
    assert laws[0,] != laws[1,], "the second pixel of a row depends on the first"
    assert laws[0, 1, 3] != laws[2, 1, 3], "a pixel depends on the one above it"
    assert laws[0, 1, 3] == laws[0, 2, 3], "and not on the one above to the right"
    assert laws[0, 1, 3, 2] != laws[0, 2, 3, 2]
    assert laws[0, 1, 3, 2] == laws[1, 1, 3, 2]


@pytest.mark.parametrize(
    ("name", "clusters"), [("synonyms-4x5", ((0, 1), (2, 3))), ("synonyms-6x4", ((0, 1, 2), (3, 4, 5)))]
)
def test_cluster_totals_depend_on_clusters_alone_and_synonyms_are_near(name, clusters):
    assert toy(name).clusters == clusters
    of = {token: k for k, cluster in enumerate(clusters) for token in cluster}
    totals, shares = {}, {}
    for s, law in laws_by_prefix(name).items():
        key = tuple(of[token] for token in s)
        total = torch.tensor([sum(law[token] for token in cluster) for cluster in clusters], dtype=torch.float64)
        torch.testing.assert_close(total, totals.setdefault(key, total), rtol=0, atol=1e-15)
        shares.setdefault(key, set()).add(tuple(law))
        for cluster in clusters:
            inside = [law[token] for token in cluster]
            assert max(inside) <= 11 / 5 * min(inside) * (1 + 1e-12)
    assert len(totals) == sum(len(clusters) ** n for n in range(toy(name).length))
    assert any(len(variants) > 1 for variants in shares.values()), "the synonym emitted must matter somewhere"


@pytest.mark.parametrize("name", ["redundant-4x4", "redundant-6x3"])
def test_copies_are_interchangeable_in_history_and_differ_in_their_shares(name):
    model = toy(name)
    assert model.clusters == tuple((first, first + 1) for first in range(0, model.vocab, 2))
    by_clusters, ratios = {}, set()
    for s, law in laws_by_prefix(name).items():
        assert law == by_clusters.setdefault(tuple(token // 2 for token in s), law)
        ratios |= {law[first] / law[first + 1] for first, _ in model.clusters}
    assert len(by_clusters) == sum(len(model.clusters) ** n for n in range(model.length))
    assert min(ratios) < 1 / 5
    assert max(ratios) > 5


@pytest.mark.parametrize("name", ["redundant-4x4", "redundant-6x3", "synonyms-4x5", "synonyms-6x4"])
def test_tokens_of_a_cluster_lie_close_and_clusters_lie_apart(name):
    model = toy(name, torch.float32)
    assert model.embedding.shape == (model.vocab, 2)
    assert model.embedding.dtype == torch.float32
    assert torch.equal(model.embedding, tabulate(model).embedding)
    of = {token: k for k, cluster in enumerate(model.clusters) for token in cluster}
    distance = torch.cdist(model.embedding, model.embedding).square()
    for a, b in itertools.combinations(range(model.vocab), 2):
        assert distance[a, b] > 0
        assert (distance[a, b] <= 1 / 4) == (of[a] == of[b])
        assert distance[a, b] <= 1 / 4 or distance[a, b] >= 16
    assert toy("dense-3x6").embedding is None


def test_penalty_halves_the_odds_of_a_counted_token():
    laws = laws_by_prefix("penalty-3x6")
    for s, law in laws.items():
        assert law == laws[tuple(sorted(s))]
        for old, new in ((0, 1), (1, 2), (2, 0)):
            if old in s:  # the same prefix with one `old` less and one `new` more
                other = list(s)
                other[other.index(old)] = new
                odds, moved = law[new] / law[old], laws[tuple(other)][new] / laws[tuple(other)][old]
                assert moved == pytest.approx(odds / 4, rel=1e-12)
                assert laws[tuple(other)][old] > law[old]


def test_recurrent_laws_see_every_earlier_token_and_every_phantom():
    laws = laws_by_prefix("recurrent-3x6")
    states = [(definition_state(s), tuple(law)) for s, law in laws.items()]
    assert len({law for _, law in states}) == len({state for state, _ in states}) > 10
    for s, slot, token in itertools.product(laws, range(5), range(3)):
        if slot < len(s) and s[slot] != token:
            assert laws[s] != laws[(*s[:slot], token, *s[slot + 1 :])]
        if len(s) < 5:
            assert laws[s] != laws[(*s, token)], "one more token must show"


def definition_state(s: tuple[int, ...]) -> int:
    state = 0
    for token in s:
        state = (5 * state + token + 1) % 16
    return state


def test_switch_moves_the_ban_each_time_the_last_id_comes():
    for s, law in laws_by_prefix("switch-3x6").items():
        banned = s.count(2) % 2
        assert law[banned] == 0
        assert law[1 - banned] > 0
        assert law[2] > 0


def test_eos_absorbs():
    model = toy("eos-3x6")
    assert model.eos == 2
    for s, law in laws_by_prefix("eos-3x6").items():
        assert (law == [0, 0, 1]) == (2 in s)
    assert all(toy(name).eos is None for name in names() if not name.startswith("eos"))
