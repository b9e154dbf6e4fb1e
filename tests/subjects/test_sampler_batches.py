"""Calls of few rows, and rows at the ends of a call, are judged apart from all rows together."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from specverify.evidence.sequences import target_law
from specverify.subjects.sampler import judge_sampler
from specverify.subjects.sampler_batches import GROUPS, Batches
from specverify.subjects.shortened import Shortened
from specverify.verdict import Kind
from tests.subjects.drawn import case, right
from toymodels import toy


def verdict(sampler, suite):
    return judge_sampler(sampler, suite=suite, delta=0.1, exact=False)


SMALL = (case("sparse-3x5", 3), case("guided-2x5", 4))


@pytest.mark.parametrize(
    ("few", "group"),
    [
        (lambda n: n < 32, "calls of 1 to 8 rows"),
        (lambda n: n == 1, "calls of 1 row"),
        (lambda n: n == 3, "calls of 3"),
    ],
)
def test_batches_of_few_rows_are_judged_apart(few, group):
    def wrong(target, draft, n, seed):
        return right(draft if few(n) else target, draft, n, seed)

    found = verdict(wrong, SMALL)
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    assert any(item.rejected for item in found.evidence if item.check.startswith(group))


def test_a_temperature_of_single_requests_shows_in_few_rows():
    model = Shortened(toy("dense-3x6"), 4)
    law = target_law(model).numpy()
    cold = law**1.5 / (law**1.5).sum()
    every = torch.cartesian_prod(*[torch.arange(3)] * 4)
    for came, found in ((cold, True), (law, False)):
        generator = np.random.default_rng(0)
        batches = Batches(generator)
        batches.rates = dict.fromkeys(GROUPS, 1e-8)
        for _ in range(500):
            batches.add("toy", model, law, every[torch.from_numpy(generator.choice(81, size=1, p=came))])
        assert batches.refuted is found


@pytest.mark.parametrize(("row", "group"), [(0, "first rows"), (-1, "last rows"), (5, "rows at place 5")])
def test_rows_at_one_place_of_a_batch_are_judged_apart(row, group):
    def wrong(target, draft, n, seed):
        tokens = right(target, draft, n, seed)
        if n > 1 and row < n - 1:
            tokens[row] = right(draft, draft, 1, seed + 10**6)[0]
        return tokens

    found = verdict(wrong, SMALL)
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    assert any(item.rejected for item in found.evidence if item.check == group)


def test_groups_of_right_rows_are_rejected_no_more_often_than_stated():
    model = Shortened(toy("dense-3x6"), 3)
    law = target_law(model).numpy()
    every = torch.cartesian_prod(*[torch.arange(3)] * 3)
    alarms = 0
    for seed in range(80):
        generator = np.random.default_rng(seed)
        batches = Batches(generator)
        batches.rates = dict.fromkeys(GROUPS, 0.05 / len(GROUPS))
        for _ in range(30):
            batches.add("toy", model, law, every[torch.from_numpy(generator.choice(27, size=3, p=law))])
        alarms += batches.refuted
    assert alarms <= 0.05 * 80 + 4 * math.sqrt(0.05 * 0.95 * 80)


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("row", "sizes", "where"),
    [
        (0, (3,), "row 0 of calls of 3 rows"),
        (1, (2, 3, 8), "row 1 of calls of"),
        (None, (2,), "any row of calls of 2 rows"),
        (-1, (2, 3, 5, 8, 33, 257), "last row of calls"),
    ],
)
def test_the_row_that_is_wrong_is_named_with_what_was_seen_against_what_is_due(row, sizes, where):
    model = Shortened(toy("dense-3x6"), 3)
    law = target_law(model).numpy()
    every = torch.cartesian_prod(*[torch.arange(3)] * 3)
    generator = np.random.default_rng(0)
    batches = Batches(generator)
    batches.rates = dict.fromkeys(GROUPS, 1e-8)
    for size in sizes:
        for _ in range(300):
            tokens = every[torch.from_numpy(generator.choice(27, size=size, p=law))]
            if row is None:
                tokens[:, 0] = 2
            else:
                tokens[row, 0] = 2
            batches.add("toy", model, law, tokens)
    wrong = [item for item in batches.evidence(0.01) if item.rejected]
    assert wrong
    assert all("rejects" in item.detail and "inf" not in item.detail for item in wrong)
    found = [batches.place(item.check, item.alpha, 0.01) for item in wrong]
    assert any(where in each["where"] for each in found)
    first = next(each for each in found if where in each["where"])
    assert (first["toy"], first["position"], first["prefix"], first["token"]) == ("toy", 0, [], 2)
    assert first["observed"][2] == 1 > first["expected"][2]


def test_a_verdict_on_small_batches_names_the_row():
    def wrong(target, draft, n, seed):
        tokens = right(target, draft, n, seed)
        if n == 3:
            tokens[1] = right(draft, draft, 1, seed + 10**6)[0]
        return tokens

    found = verdict(wrong, SMALL)
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    assert "row 1 of calls of 3 rows on " in found.verdict.reason
    assert " instead of " in found.verdict.reason
    assert "inf" not in found.verdict.reason
    assert found.location["where"] == "row 1 of calls of 3 rows"
