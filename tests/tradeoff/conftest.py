import pytest

from specverify.tradeoff.plan import AR, LOSSLESS, REAL
from tests.tradeoff.by_hand import REPLICATES, row


@pytest.fixture
def record():
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
