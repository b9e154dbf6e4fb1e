"""What a sweep states about many settings holds at its rate: limits after choosing, and losses relative to AR."""

import math

import numpy as np
import pytest

from realmodels import bootstrap, quality
from specverify.evidence.design import rate_excess
from specverify.tradeoff import choose
from specverify.tradeoff.plan import AR, Cell

TRIALS, REPLICATES = 200, 60
SPREAD, LIMIT = 0.01, 0.1


def _row(rule, number, speedup, loss, generator):
    drawn = loss + SPREAD * generator.normal()
    return {
        "id": f"{rule}/{number}",
        "rule": rule,
        "guidance": 1.0,
        "claim": None,
        "n": 1000,
        "error": None,
        "metrics": {
            "speedup": {"value": speedup, "replicates": np.full(REPLICATES, speedup)},
            "bias": {"value": drawn, "replicates": drawn + SPREAD * generator.normal(size=REPLICATES)},
        },
    }


def _sweep(losses, generator):
    """A sweep whose settings are the faster the more they lose; what each shows is its true loss and noise."""
    rows = [_row("rule", number, 1 + 0.1 * number, loss, generator) for number, loss in enumerate(losses)]
    return {"setting": {"model": "digits-s"}, "rows": [_row(AR, 0, 1.0, 0.0, generator), *rows]}


def _each_for_itself(record):
    """The chooser as it was: the fastest whose own 95% limit is within what was asked for."""
    rows = choose.settings(record)
    most = [np.quantile(row["metrics"]["bias"]["replicates"], 0.95) for row in rows]
    within = [number for number, value in enumerate(most) if value <= LIMIT]
    return (within[-1], most[within[-1]]) if within else None


@pytest.mark.parametrize(
    ("losses", "before"),
    [(np.full(60, LIMIT + 1e-9), 0.8), (np.linspace(0, 2 * LIMIT, 100), 0.1)],
    ids=["all just above", "a frontier"],
)
def test_the_limit_of_the_chosen_setting_holds_at_its_rate(losses, before, seed):
    wrong = wrong_before = 0
    for trial in range(TRIALS):
        record = _sweep(losses, np.random.default_rng([seed, trial]))
        (choice,) = choose.fastest(record, LIMIT)
        if (one := choice.chosen) is not None:
            assert one.most <= LIMIT
            wrong += losses[int(one.id.split("/")[1])] > one.most
        if (old := _each_for_itself(record)) is not None:
            wrong_before += losses[old[0]] > old[1]
    assert rate_excess(int(wrong), TRIALS, 1 - choose.CONFIDENCE) > 1e-4, wrong
    assert wrong_before > before * TRIALS


def test_what_n_would_confirm_does():
    # A fixed draw: with some others the first loss is estimated above the limit, or confirmed at once.
    record = _sweep([0.05, 0.12], np.random.default_rng(0))
    (choice,) = choose.fastest(record, 0.06)
    assert choice.chosen is None
    needed = choice.nearest.needed
    assert needed > 1000
    factor = math.sqrt(1000 / needed)
    for row in record["rows"]:
        metric = row["metrics"]["bias"]
        metric["replicates"] = metric["value"] + factor * (metric["replicates"] - metric["value"])
    (again,) = choose.fastest(record, 0.06)
    assert again.chosen.id == choice.nearest.id
    assert again.chosen.most == pytest.approx(0.06, abs=1e-4)


def test_a_loss_of_distance_relative_to_ar_holds_and_the_distance_alone_does_not(seed):
    """Gaussian features: the true Frechet distances are known."""
    size, n, trials = 12, 200, 120
    centre, root = np.full(size, 0.1), np.eye(size)
    shift = np.full(size, 0.12)
    truth = [quality.frechet(mean, np.eye(size), centre, root) for mean in (np.zeros(size), shift)]
    held = alone = below = 0
    for trial in range(trials):
        generator = np.random.default_rng([seed, trial])
        rows = []
        cells = ((Cell(AR, 1.0), 0.0), (Cell(AR, 1.0, repeat=1), 0.0), (Cell("mixture", 1.0), shift))
        for number, (cell, mean) in enumerate(cells):
            features = generator.normal(size=(n, size)) + mean
            value = quality.frechet(features.mean(0), np.cov(features, rowvar=False), centre, root)
            weight = bootstrap.weights(n, 80, 3 * trial + number)
            moved = bootstrap.estimate(float(value), quality.resampled(features, weight, centre, root))
            metric = {"value": moved.value, "replicates": moved.replicates, "interval": moved.interval}
            rows.append({"id": cell.id, "rule": cell.rule, "guidance": 1.0, "error": None, "metrics": {"fd": metric}})
        found = choose.loss({"rows": rows}, rows[-1], "fd")
        held += found.interval[0] <= truth[1] - truth[0] <= found.interval[1]
        below += found.value + choose.quantile(1, 80) * found.spread >= truth[1] - truth[0]
        alone += rows[-1]["metrics"]["fd"]["interval"][0] <= truth[1] <= rows[-1]["metrics"]["fd"]["interval"][1]
    assert rate_excess(int(trials - held), trials, 0.05) > 1e-4, held
    assert rate_excess(int(trials - below), trials, 0.05) > 1e-4, below
    assert alone < 0.75 * trials  # why it is called a distance of n images, and nowhere the law's
