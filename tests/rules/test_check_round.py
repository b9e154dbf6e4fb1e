"""One verification round as somebody hands it over: what is wrong with it is said once, with the value."""

import re

import pytest
import torch

from specverify.errors import InputError
from specverify.rules.token import check_round

P = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]], dtype=torch.float64)
Q = torch.tensor([[0.0, 1.0, 0.0], [0.6, 0.3, 0.1]], dtype=torch.float64)
X = torch.tensor([1, 0])


def changed(law, value, place=(1, 0)):
    law = law.clone()
    law[place] = value
    return law


BAD = {
    "shapes of the laws": (
        (P, Q[:1], X),
        "shapes do not match: p (2, 3), q (1, 3), draft (2,); p and q are [..., vocab]",
    ),
    "shape of the drafts": ((P, Q, X[:1]), "shapes do not match: p (2, 3), q (2, 3), draft (1,)"),
    "dtypes": ((P, Q.float(), X), "p has dtype torch.float64 and q torch.float32; convert them to one dtype"),
    "integer laws": ((P.long(), Q.long(), X), "p has dtype torch.int64; laws must be floating point"),
    "dtype of the drafts": ((P, Q, X.int()), "the draft tokens have dtype torch.int32; tokens are int64"),
    "no vocabulary": ((P[:, :0], Q[:, :0], X), "p has shape (2, 0): the vocabulary is empty"),
    "scalars": ((P[0, 0], Q[0, 0], X), "shapes do not match: p (), q (), draft (2,)"),
    "NaN in p": ((changed(P, torch.nan), Q, X), "p holds NaN; check the logits that it was made from"),
    "NaN in q": ((P, changed(Q, torch.nan), X), "q holds NaN"),
    "infinite": ((changed(P, torch.inf), Q, X), "p does not sum to 1: it is off by inf"),
    "negative": ((P, changed(Q, -0.25), X), "q holds the negative probability -0.25; probabilities are at least 0"),
    "unnormalised": (
        (changed(P, 0.7), Q, X),
        "p does not sum to 1: it is off by 0.5; normalise it along its last axis",
    ),
    "beyond the vocabulary": ((P, Q, torch.tensor([1, 3])), "draft tokens 1..3 lie outside 0..2"),
    "below it": ((P, Q, torch.tensor([-1, 0])), "draft tokens -1..0 lie outside 0..2"),
    "a draft that q cannot draw": (
        (P, Q, torch.tensor([2, 0])),
        "draft token 2 has q = 0, so it cannot have been drawn from q; pass the law that the draft was really",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_a_bad_round_is_refused_by_name_and_value(arguments, message):
    with pytest.raises(InputError, match=re.escape(message)):
        check_round(*arguments)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_good_round_passes_in_any_precision_and_shape(dtype):
    check_round(P.to(dtype), Q.to(dtype), X)
    check_round(P[None].to(dtype), Q[None].to(dtype), X[None])
    check_round(P[0].to(dtype), Q[0].to(dtype), X[0])
    check_round(P[:0].to(dtype), Q[:0].to(dtype), X[:0])
