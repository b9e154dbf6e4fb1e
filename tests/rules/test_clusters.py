"""Rules over a partition: what they accept, what partitions are, and what degenerate clusters do."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_laws import built, pairs
from torch.testing import assert_close

from specverify.claims import ClusterLossless, Relaxed
from specverify.errors import InputError
from specverify.rules.clusters import Clusters, clusters_of, labels, partition_from_embedding
from specverify.rules.price import price
from toymodels import toy

EXACT = {"rtol": 0, "atol": 1e-12}
PAIRS = ((0, 2), (1, 3))


@given(pairs, st.data())
@settings(max_examples=50)
def test_drafts_are_kept_and_replaced_as_defined(pair, data):
    p, q = (law.tolist() for law in pair)
    label = data.draw(st.lists(st.integers(0, 2), min_size=len(p), max_size=len(p)))
    rules = {kind: Clusters(torch.tensor(label), kind) for kind in ("token", "cluster")}
    mass_p, mass_q = ([sum(w for w, c in zip(law, label, strict=True) if c == n) for n in range(3)] for law in (p, q))
    left = [max(0.0, a - b) for a, b in zip(mass_p, mass_q, strict=True)]
    for x, c in enumerate(label):
        if q[x] == 0:
            continue
        draft = torch.tensor(x)
        keep = min(1.0, mass_p[c] / mass_q[c])
        assert float(rules["token"].accept(*pair, draft)) == pytest.approx(keep, abs=1e-12)
        assert float(rules["cluster"].accept(*pair, draft)) == pytest.approx(keep, abs=1e-12)
        if sum(left) > 1e-6:
            replaced = [
                left[label[y]] / sum(left) * p[y] / mass_p[label[y]] if mass_p[label[y]] > 0 else 0.0
                for y in range(len(p))
            ]
            found = rules["cluster"].recover(*pair, draft)
            assert_close(found, torch.tensor(replaced, dtype=torch.float64), rtol=0, atol=1e-9)


def test_a_partition_may_be_tuples_or_labels():
    by_tuples, by_labels = Clusters(PAIRS), Clusters(torch.tensor([7, 3, 7, 3]))
    assert by_tuples.partition == PAIRS
    assert by_labels.partition == ((1, 3), (0, 2)), "clusters are numbered in the order of their labels"
    assert Clusters(PAIRS) == Clusters(torch.tensor([0, 1, 0, 1]))
    assert clusters_of(labels(PAIRS)) == PAIRS


def test_singletons_are_the_token_rule_and_one_cluster_keeps_everything():
    p, q = torch.tensor([[0.2, 0.3, 0.5], [0.5, 0.25, 0.25]], dtype=torch.float64)
    for kind in ("token", "cluster"):
        alone = price(p, q, Clusters(((0,), (1,), (2,)), kind))
        assert_close(alone.law, p, **EXACT)
        assert_close(alone.gain, torch.zeros_like(alone.gain), **EXACT)
        whole = price(p, q, Clusters(((0, 1, 2),), kind))
        assert_close(whole.law, q, **EXACT)
        assert float(whole.acceptance) == pytest.approx(1, abs=1e-12)


def test_a_one_hot_draft_stands_for_its_cluster():
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    q = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    token, cluster = (price(p, q, Clusters(PAIRS, kind)) for kind in ("token", "cluster"))
    assert_close(cluster.acceptance, torch.tensor(0.4, dtype=torch.float64), **EXACT)
    assert_close(cluster.law, torch.tensor([0.4, 0.2, 0, 0.4], dtype=torch.float64), **EXACT)
    assert_close(token.law, torch.tensor([0.4, 0.6 * 2 / 9, 0.6 * 3 / 9, 0.6 * 4 / 9], dtype=torch.float64), **EXACT)


def test_clusters_without_mass_are_no_trouble():
    p = torch.tensor([0.0, 0.5, 0.0, 0.5], dtype=torch.float64)
    q = torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=torch.float64)
    found = price(p, q, Clusters(PAIRS, "cluster"))
    assert_close(found.law, torch.tensor([0, 0.625, 0, 0.375], dtype=torch.float64), **EXACT)
    never = Clusters(PAIRS).accept(p, torch.tensor([0.0, 0, 0, 1]).double(), torch.tensor(0))
    assert bool(never.isnan()), "a draft that q cannot have drawn, from a cluster that neither law has"


def test_half_precision_sums_clusters_in_single():
    size = 4096
    p = torch.full((size,), 1 / size, dtype=torch.bfloat16)
    rule = Clusters((torch.arange(size) >= size // 2).long())
    assert float(rule.accept(p, p, torch.tensor(0))) == 1.0
    assert rule.accept(p, p, torch.tensor(0)).dtype == torch.bfloat16
    half = torch.zeros_like(p)
    half[: size // 2] = 2 / size
    assert float(rule.accept(p, half, torch.tensor(0))) == 0.5


def test_claims_follow_the_residual():
    assert Clusters(PAIRS, "cluster").claim == ClusterLossless(PAIRS)
    assert Clusters(PAIRS, "token").claim == Relaxed(1.0)


@pytest.mark.parametrize("name", ["redundant-4x4", "redundant-6x3", "synonyms-6x4"])
def test_k_means_finds_the_clusters_of_the_redundant_toys(name):
    model = toy(name)
    found = partition_from_embedding(model.embedding, len(model.clusters), seed=0)
    assert sorted(clusters_of(found)) == sorted(model.clusters)
    assert torch.equal(found, partition_from_embedding(model.embedding, len(model.clusters), seed=0))


BAD = {
    "empty": (lambda: labels(()), "the partition is empty; each token id belongs to one cluster"),
    "empty cluster": (lambda: labels(((0, 1), ())), "cluster 1 is empty; leave it out"),
    "overlap": (lambda: labels(((0, 1), (1, 2))), "token 1 is in more than one cluster"),
    "gap": (lambda: labels(((0, 1), (3,))), "token 2 is in no cluster; each id of 0..3 belongs to one"),
    "negative": (lambda: labels(((0, -1),)), "token id -1 in the partition; ids are at least 0"),
    "shape of labels": (
        lambda: labels(torch.zeros(2, 2).long()),
        "cluster labels of shape (2, 2) and dtype torch.int64",
    ),
    "dtype of labels": (
        lambda: labels(torch.zeros(2)),
        "cluster labels of shape (2,) and dtype torch.float32; they are",
    ),
    "other vocabulary": (
        lambda: Clusters(PAIRS).accept(torch.ones(1), torch.ones(1), torch.tensor(0)),
        "the partition covers 4 tokens, but the laws have 1; each token of the vocabulary belongs to one cluster",
    ),
    "residual": (
        lambda: built(Clusters, partition=PAIRS, residual="none"),
        "unknown residual 'none'; choose one of token, cluster",
    ),
    "too many": (
        lambda: partition_from_embedding(torch.tensor([[0.0], [0.0], [1.0]]), 3),
        "3 clusters of 2 different rows; ask for 1 to 2",
    ),
    "none": (lambda: partition_from_embedding(torch.eye(3), 0), "0 clusters of 3 different rows; ask for 1 to 3"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_what_is_no_partition_is_refused_by_value(call, message):
    with pytest.raises(InputError, match=re.escape(message)):
        call()


def test_many_drafts_of_one_law_are_kept_as_drafts_of_many_are():
    p, q = torch.rand(2, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(-1)
    drafts = torch.arange(6)[:, None].expand(6, 3)
    for rule in (Clusters(((0, 1), (2, 3, 4), (5,))), Clusters(((0, 1), (2, 3, 4), (5,)), "cluster")):
        ps, qs = p.expand(6, 3, 6), q.expand(6, 3, 6)
        alone = rule.accept(ps.contiguous(), qs.contiguous(), drafts)
        assert torch.equal(rule.accept(ps, qs, drafts), alone)
        assert 0 < float(alone.min()) < float(alone.max()) <= 1
