"""Rows of a sweep made by hand."""

import numpy as np

from realmodels import bootstrap
from specverify.tradeoff import measure
from specverify.tradeoff.plan import AR, LOSSLESS, REAL, Cell

REPLICATES = 200


def metric(value, deviation, seed):
    spread = np.random.default_rng(seed).normal(size=REPLICATES)
    spread = deviation * (spread - spread.mean()) / spread.std()
    return bootstrap.Estimate(value, value + spread)


def row(rule, seed, speedup=1.0, bias=None, fd=1.0, accuracy=0.98, guidance=1.0, value=None, **more):
    drafting = None if rule in (AR, REAL) else "maximal"
    parameter = None if value is None else "k"
    cell = Cell(rule, None if rule == REAL else guidance, drafting, parameter, value, seed if rule == AR else 0)
    metrics = {
        "speedup": metric(speedup, 0.0 if rule == AR else 0.05, 10 * seed),
        "lockstep-64": metric(0.7 * speedup + 0.3, 0.0 if rule == AR else 0.05, 10 * seed),
        "passes": metric(64 / speedup, 0.0 if rule == AR else 0.3, 10 * seed),
        "fd": metric(fd, 0.1, 10 * seed + 1),
        "accuracy": metric(accuracy, 0.005, 10 * seed + 2),
    }
    if bias is not None:
        metrics |= {"bias": metric(bias, 0.01, 10 * seed + 3), "excess": metric(0.0, 0.0, 0)}
    return {
        "id": cell.id,
        "rule": rule,
        "guidance": cell.guidance,
        "drafting": drafting,
        "window": None,
        "parameter": parameter,
        "value": value,
        "claim": None,
        "n": 100,
        "z": None,
        "seconds_per_image": 0.01,
        "seconds_alone": 0.02,
        "times": {"seconds_per_image": [0.009, 0.011], "seconds_alone": [0.02, 0.021, 0.019]},
        "head_evaluations": None,
        "metrics": {name: measure._plain(one, keep=True) for name, one in metrics.items()},
        "images": {"tokens": [[seed] * 64] * 20, "labels": [i % 10 for i in range(20)]},
        "error": None,
        **more,
    }


def sweep():
    """A record of a sweep: timid rules, bold ones, and one that is wild."""
    rows = [
        row(REAL, 9),
        row(AR, 0, fd=0.9),
        row(AR, 1, fd=1.1),
        row(LOSSLESS, 2, 3.0, 0.0, claim="lossless"),
        row("timid", 3, 3.5, 0.05, value=1.0, fd=1.05),
        row("timid", 4, 4.0, 0.09, value=2.0, fd=1.1),
        row("bold", 5, 5.0, 0.095, fd=3.0),  # its estimate is below 0.1, its upper limit is not
        row("wild", 6, 7.0, 0.5, fd=9.0, accuracy=0.5),
    ]
    del rows[0]["metrics"]["speedup"]
    return {
        "schema": "specverify-tradeoff",
        "version": 1,
        "status": "complete",
        "created": "2020-01-01T00:00:00+00:00",
        "command": "specverify tradeoff <&>",
        "tokens": "grey levels",
        "setting": {
            "model": "digits-s", "n": 100, "window": 16, "seed": 0, "batch": 50, "device": "cpu",
            "resamples": REPLICATES,
        },
        "length": 64,
        "levels": 17,
        "omitted": {},
        "planned": 8,
        "software": {"specverify": "0"},
        "hardware": {"cpus": 1, "jobs": 1, "accelerator": None},
        "rows": rows,
    }  # fmt: skip
