"""What rounding may leave, and which precision a decoder was seen to compute in."""

import pytest
import torch

from specverify.evidence.rounding import UNITS, Precisions, coarser, floor


def test_the_floor_grows_with_the_length_and_is_none_in_double():
    assert floor(torch.float64, 100) == 0
    assert floor(torch.float32, 1) == UNITS * 2**-23
    assert floor(torch.float32, 6) == pytest.approx(6 * floor(torch.float32, 1))
    assert floor(torch.bfloat16, 1) > floor(torch.float16, 1) > floor(torch.float32, 1)


def test_the_coarser_of_two_precisions():
    assert coarser(torch.float64, torch.float32) == torch.float32
    assert coarser(torch.bfloat16, torch.float16, torch.float64) == torch.bfloat16


@pytest.mark.parametrize("seed", range(5))
def test_the_token_rule_in_float32_stays_below_the_floor(seed):
    generator = torch.Generator().manual_seed(seed)
    p, q = torch.rand(2, 1000, 6, generator=generator, dtype=torch.float64).pow(6).unbind()
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    keep = (p.float() / q.float()).clamp(max=1).double()
    rest = (p.float() - q.float()).clamp(min=0)
    rest = (rest / rest.sum(-1, keepdim=True)).double()
    came = q * keep + (1 - (q * keep).sum(-1, keepdim=True)) * rest
    assert float((came - p).abs().sum(-1).max()) / 2 < floor(torch.float32, 1)


def test_types_are_seen_where_they_are_made():
    law = torch.full((3,), 1 / 3, dtype=torch.float64)
    with Precisions() as precisions:
        law / law.sum()
    assert precisions.seen == {torch.float64}
    with Precisions() as precisions:
        law.half().double()
    assert precisions.seen == {torch.float64, torch.float16}
