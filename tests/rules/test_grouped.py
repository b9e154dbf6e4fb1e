"""Dynamic groups against their definition, token by token in plain Python; and where their theorem fails."""

import math
import re
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_laws import built, pairs
from torch.testing import assert_close

from specverify.claims import Relaxed
from specverify.errors import InputError
from specverify.rules.grouped import Grouped
from specverify.rules.neighbours import nearest, order_key
from specverify.rules.price import price

EXACT = {"rtol": 0, "atol": 1e-12}
PLACES = torch.tensor([[0.0, 0], [0.3, 0], [0.3, 0.7], [1, 1], [1.5, 1], [1.5, 3], [0, 1]], dtype=torch.float64)


def defined(rule, p, q, x):
    """The chance to keep x, by the definition: sort, cut out, filter, sum."""
    order = sorted(range(len(p)), key=lambda v: (p[v], v))
    rank = order.index(x)
    token = min(1.0, p[x] / q[x])
    if rule.edge == "token" and rank < rule.below:
        return token
    if rule.edge == "repeat":
        ranks = [min(max(r, 0), len(p) - 1) for r in range(rank - rule.below, rank + rule.above + 1)]
        group = [order[r] for r in ranks]
    else:
        group = order[max(0, rank - rule.below) : rank + rule.above + 1]

    def inside(value, bound):
        return value < bound if rule.strict else value <= bound

    group = [v for v in group if inside(abs(p[v] - p[x]), rule.gap)]
    if rule.embedding is not None:
        places = rule.embedding.tolist()
        group = [
            v
            for v in group
            if inside(sum((a - b) ** 2 for a, b in zip(places[v], places[x], strict=True)), rule.distance)
        ]
    a = min(1.0, sum(p[v] for v in group) / sum(q[v] for v in group))
    return max(a, token) if rule.at_least_token else a


@st.composite
def windows(draw, vocab):
    strict = draw(st.booleans())
    embedded = draw(st.booleans())
    bound = st.floats(0.01, 1) | st.just(math.inf)
    return Grouped(
        draw(st.integers(0, 9)),
        draw(st.integers(0, 9)),
        draw(bound),
        draw(st.floats(0.02, 3)) if embedded else math.inf,
        PLACES[:vocab] if embedded else None,
        draw(st.sampled_from(["clip", "token", "repeat"])),
        strict,
        draw(st.booleans()),
    )


@given(pairs, st.data())
@settings(max_examples=50)
def test_groups_are_those_of_the_definition_whatever_the_size_and_the_edge(pair, data):
    p, q = pair
    rule = data.draw(windows(len(p)))
    drawn = (q > 0).nonzero().squeeze(1)
    ps, qs = p.expand(len(drawn), -1), q.expand(len(drawn), -1)
    expected = torch.tensor([defined(rule, p.tolist(), q.tolist(), x) for x in drawn.tolist()], dtype=torch.float64)
    # Of one law it sorts, of many it selects.
    assert_close(rule.accept(ps, qs, drawn), expected, **EXACT)
    assert_close(rule.accept(ps.contiguous(), qs.contiguous(), drawn), expected, **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_released_form_at_a_size_where_every_edge_occurs(dtype):
    generator = torch.Generator().manual_seed(1)
    # Probabilities in sixty-fourths are exact in every dtype, and tie often.
    p, q = (torch.randint(0, 3, (24,), generator=generator).double() for _ in range(2))
    q[0], p[p.argmax()], q[q.argmax()] = 1, 64 - p.sum() + p.max(), 64 - q.sum() + q.max()
    p, q = p / 64, q / 64
    embedding = torch.randint(-2, 3, (24, 2), generator=generator).double() / 2
    rule = Grouped.released(embedding)
    drawn = (q > 0).nonzero().squeeze(1)
    found = rule.accept(
        p.to(dtype).expand(len(drawn), -1).contiguous(), q.to(dtype).expand(len(drawn), -1).contiguous(), drawn
    )
    expected = torch.tensor([defined(rule, p.tolist(), q.tolist(), x) for x in drawn.tolist()])
    assert_close(found.double(), expected.double(), rtol=0, atol=1e-2 if dtype == torch.bfloat16 else 1e-6)
    ranks = [sorted(range(24), key=lambda v: (float(p[v]), v)).index(x) for x in drawn.tolist()]
    assert min(ranks) < 7 < max(ranks), "an edge and an inside are both seen"


def test_a_draft_at_either_end_of_the_ranks_has_neighbours_on_one_side_only():
    p, q = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]], dtype=torch.float64).expand(2, 2, 4).unbind(1)
    ends = torch.tensor([0, 3])
    assert_close(Grouped(1, 1).accept(p, q, ends), torch.tensor([0.3 / 0.7, 1.0]).double(), rtol=0, atol=1e-7)
    clamped = Grouped(1, 1, edge="repeat").accept(p, q, ends)
    assert_close(clamped, torch.tensor([0.4 / 1.1, 1.0], dtype=torch.float64), **EXACT)
    assert_close(Grouped(1, 1, edge="token").accept(p, q, ends)[0], torch.tensor(0.25, dtype=torch.float64), **EXACT)
    assert_close(Grouped(99, 99).accept(p, q, ends), torch.ones(2, dtype=torch.float64), **EXACT)


COUNTEREXAMPLES = {
    "six tokens, two below and one above": (
        (2, 1),
        (("0.001", "0.002", "0.007", "0.24", "0.27", "0.48"), ("0.01", "0.74", "0.005", "0.235", "0.005", "0.005")),
        (Fraction("0.2530"), Fraction("0.1449")),
    ),
    "five tokens, one on either side": (
        (1, 1),
        (("0.01", "0.02", "0.10", "0.11", "0.76"), ("0.55", "0.24", "0.10", "0.10", "0.01")),
        (Fraction("0.2400"), Fraction("0.2182")),
    ),
}


@pytest.mark.parametrize(("size", "laws", "known"), COUNTEREXAMPLES.values(), ids=COUNTEREXAMPLES)
def test_the_acceptance_theorem_of_partitions_does_not_hold_for_windows_of_ranks(size, laws, known):
    (below, above), (alpha, accepted) = size, known
    p, q = ([Fraction(x) for x in law] for law in laws)
    assert sum(p) == sum(q) == 1
    assert p == sorted(p), "so that ranks are ids"
    assert sum(map(min, p, q)) == alpha
    groups = [range(max(0, x - below), min(len(p), x + above + 1)) for x in range(len(p))]
    exact = sum(
        q[x] * min(Fraction(1), sum(p[v] for v in group) / sum(q[v] for v in group)) for x, group in enumerate(groups)
    )
    assert round(exact, 4) == accepted < alpha, "a relaxed rule that accepts less than the exact one"
    p, q = (torch.tensor([float(x) for x in law], dtype=torch.float64) for law in (p, q))
    found = price(p, q, Grouped(below, above))
    assert float(found.acceptance) == pytest.approx(float(exact), abs=1e-12)
    assert float(found.gain) == pytest.approx(float(exact - alpha), abs=1e-12)
    assert found.bias > 0
    mended = price(p, q, Grouped(below, above, at_least_token=True))
    assert float(mended.acceptance) > alpha
    assert abs(mended.excess) <= 1e-12


@given(pairs, st.data())
@settings(max_examples=50)
def test_never_accepting_less_than_the_token_rule_dominates(pair, data):
    p, q = pair
    rule = data.draw(windows(len(p)))
    plain, mended = (
        price(p, q, Grouped(rule.below, rule.above, rule.gap, edge=rule.edge, strict=rule.strict, at_least_token=most))
        for most in (False, True)
    )
    assert mended.acceptance >= plain.acceptance - 1e-12
    assert mended.bias <= plain.bias + 1e-12
    assert abs(mended.excess) <= 1e-12


def test_forms_that_were_published():
    paper = Grouped.paper(10, embedding=PLACES)
    assert (paper.below, paper.above, paper.gap, paper.distance, paper.edge) == (5, 5, 0.15, 0.5, "clip")
    assert Grouped.paper(3).below == Grouped.paper(3).above == 1
    assert Grouped.paper().distance == math.inf
    released = Grouped.released(PLACES)
    assert (released.below, released.above, released.gap, released.distance) == (7, 6, 0.15, 0.5)
    assert released.strict
    assert (Grouped.cosmos().below, Grouped.cosmos().above, Grouped.cosmos().edge) == (4, 4, "repeat")
    assert paper.claim == Relaxed(1.0)


BAD = {
    "size": (lambda: Grouped(-1, 2), "-1 neighbours below and 2 above; both are at least 0"),
    "gap": (lambda: Grouped(1, 1, -0.1), "gap = -0.1, distance = inf: they are at least 0"),
    "strict gap": (
        lambda: Grouped(1, 1, 0.0, strict=True),
        "more than 0 if strict, so that a draft belongs to its own",
    ),
    "no embedding": (lambda: Grouped(1, 1, distance=0.5), "distance = 0.5 needs an embedding; pass one row per token"),
    "edge": (
        lambda: built(Grouped, below=1, above=1, edge="wrap"),
        "unknown edge 'wrap'; choose one of clip, token, repeat",
    ),
    "flat embedding": (
        lambda: Grouped.released(torch.zeros(3, 0)),
        "the embedding has shape (3, 0) and dtype torch.float32; it is a floating-point table [vocab, dim]",
    ),
    "NaN": (lambda: Grouped.released(torch.full((3, 1), torch.nan)), "the embedding holds NaN or infinity"),
    "other vocabulary": (
        lambda: Grouped.released(PLACES).accept(torch.ones(1, 1), torch.ones(1, 1), torch.zeros(1, dtype=torch.int64)),
        "the embedding has 7 rows, but the vocabulary has 1 tokens",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_impossible_settings_are_refused_by_value(call, message):
    with pytest.raises(InputError, match=re.escape(message)):
        call()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_order_keys_are_different_and_in_the_order_of_value_and_place(dtype):
    values = torch.tensor([[0.5, 0.0, -0.0, 0.25, 0.5, 1e-7, 0.25], [1, 1, 1, 1, 1, 1, 1]], dtype=dtype)
    key = order_key(values)
    for row in range(2):
        expected = sorted(range(7), key=lambda v: (float(values[row, v]), v))
        assert key[row].argsort().tolist() == expected
        assert len(set(key[row].tolist())) == 7
    assert int(key.min()) >= 0


@pytest.mark.parametrize("k", [1, 3, 6])
def test_nearest_neighbours_are_those_of_a_sort(k):
    def distance(a, b):
        return math.dist(PLACES[a].tolist(), PLACES[b].tolist())

    expected = [sorted((v for v in range(7) if v != x), key=lambda v: (distance(x, v), v))[:k] for x in range(7)]
    assert nearest(PLACES, k).tolist() == expected
    same = nearest(torch.zeros(4, 2), 3)
    assert same.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]], (
        "ties go by id, and nobody is his own neighbour"
    )


def test_there_are_no_more_neighbours_than_others():
    with pytest.raises(InputError, match="k = 7 nearest neighbours of 7 tokens; k lies between 1 and 6"):
        nearest(PLACES, 7)
