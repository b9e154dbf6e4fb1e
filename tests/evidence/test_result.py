"""Evidence as a value, and what is refused before any statistics."""

import json
import math

import numpy as np
import pytest
import torch

from specverify.errors import InputError
from specverify.evidence import result
from specverify.evidence.result import Evidence


def evidence(**changes):
    fields = {
        "check": "joint law (g)",
        "statistic": 12.5,
        "p_value": 0.25,
        "alpha": 1e-6,
        "beta": 1e-6,
        "delta": 0.01,
        "metric": result.TOTAL_VARIATION,
        "n": 1000,
        "rejected": False,
        "basis": "exact",
        "power": "asymptotic",
    }
    return Evidence(**(fields | changes))


def test_json_gives_back_the_same_evidence():
    full = evidence(
        statistic=math.inf,
        p_value=None,
        estimate=0.5,
        interval=(0.0, 0.75),
        vacuous="why",
        blind="what",
        detail="how",
        coverage={"cells": 3, "index": -math.inf},
        data={"path": [1.0, math.inf], "names": ["a", "b"], "nested": [[1, 2], [3, 4]]},
    )
    text = json.dumps(full.to_json(), allow_nan=False)
    assert Evidence.from_json(json.loads(text)) == full


def test_json_turns_arrays_into_lists():
    record = evidence(data={"counts": np.array([1, 2]), "law": torch.tensor([0.5, 0.5]), "n": np.int64(3)}).to_json()
    assert record["data"] == {"counts": [1, 2], "law": [0.5, 0.5], "n": 3}
    json.dumps(record, allow_nan=False)


def test_a_record_of_something_else_is_refused():
    record = evidence().to_json()
    del record["beta"]
    with pytest.raises(InputError, match=r"not a record of evidence: missing \['beta'\], unknown \['power_at'\]"):
        Evidence.from_json(record | {"power_at": 1})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: result.check_rates(0.0), "alpha is 0.0; a false-alarm rate lies strictly between 0 and 1"),
        (lambda: result.check_rates(0.1, 1.0), "beta is 1.0; a miss rate lies strictly between 0 and 1"),
        (lambda: result.check_rates(math.nan), "alpha is nan"),
        (lambda: result.check_size(0), "n is 0; a check needs at least one sample"),
        (lambda: result.check_delta(0.0), "delta is 0.0; a discrepancy in total variation is above 0 and at most 1"),
        (lambda: result.check_delta(1.5), "delta is 1.5"),
        (lambda: result.check_delta(math.inf, result.NATS), "a discrepancy in nats per token is above 0"),
        (lambda: result.to_law(np.full((2, 2), 0.5)), r"the law has shape \(2, 2\); give one probability"),
        (lambda: result.to_law(np.array([0.5, 0.6])), "does not sum to 1"),
        (lambda: result.to_law(np.array([1.5, -0.5])), "negative probability -0.5"),
        (lambda: result.to_counts(np.array([1, 2, 3]), 2), r"counts have shape \(3,\), but the law has 2 outcomes"),
        (lambda: result.to_counts(np.array([3, -1]), 2), "the count of outcome 1 is -1"),
        (lambda: result.to_counts(np.array([0, 0]), 2), "the number of counted samples is 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_discrepancy_in_nats_may_exceed_one():
    result.check_delta(1.5, result.NATS)


def test_laws_of_low_precision_are_normalised_in_float64():
    law = result.to_law(torch.tensor([0.1, 0.2, 0.7], dtype=torch.float32))
    assert law.dtype == np.float64
    assert abs(law.sum() - 1) < 1e-15
