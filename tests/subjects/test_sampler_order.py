"""Words for rows that come in some order, or stand again where they stood."""

import numpy as np
import pytest
import torch

from specverify.evidence.sequences import sequence_index
from specverify.subjects.sampler_order import FEWEST, first_equal, order

VOCAB, EOS = 3, 2
LAW = np.random.default_rng(1).dirichlet(np.ones(VOCAB**4))


def calls(number=4, rows=40):
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(VOCAB, (rows, 4), generator=generator) for _ in range(number)]


def arranged(by, descending=False):
    return [call[by(call).argsort(descending=descending)] for call in calls()]


def length(call):
    return (call == EOS).long().cumsum(1).eq(0).sum(1)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (calls(), ""),
        (arranged(lambda call: sequence_index(call, VOCAB)), "ascending order of their tokens"),
        (arranged(lambda call: sequence_index(call, VOCAB), True), "descending order of their tokens"),
        (arranged(length), "ascending order of their length"),
        (
            arranged(lambda call: torch.from_numpy(LAW)[sequence_index(call, VOCAB)], True),
            "descending order of their pro",
        ),
        ([call[: FEWEST - 1] for call in arranged(length)], ""),
        ([torch.ones(40, 4, dtype=torch.int64)] * 2, ""),
    ],
    ids=["none", "tokens", "tokens, descending", "length", "probability", "too few", "all alike"],
)
def test_an_order_is_named_by_what_it_is_of(rows, said):
    found = order(rows, VOCAB, EOS, LAW)
    assert (said in found) if said else not found


def test_the_first_row_that_stands_in_two_calls_is_named():
    rows = calls()
    rows[1][:] = (rows[0] + 1) % VOCAB
    rows[3][:] = (rows[2] + 1) % VOCAB
    assert first_equal(rows) == ""
    rows[3][5] = rows[2][5]
    assert first_equal(rows) == "first in row 5 of calls 2 and 3"
