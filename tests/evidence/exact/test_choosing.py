"""Choices by a comparison that is not decided: right ones are proved for all laws at once, and wrong ones are not."""

from __future__ import annotations

import pytest
import torch
from evidence.exact.fooling import judging, off

from specverify.errors import ContractError
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.proof import prove
from specverify.rules.token import at

LAWS = (
    ((0.5, 0.4, 0.1), (0.3, 0.2, 0.5)),
    ((0.5, 0.3, 0.2), (0.2, 0.3, 0.5)),
    ((0.1, 0.2, 0.7), (0.6, 0.3, 0.1)),
    ((0.5, 0.3, 0.2), (0.3, 0.2, 0.5)),
    ((0.2, 0.5, 0.3), (0.0, 0.4, 0.6)),
    ((0.0, 0.6, 0.4), (0.5, 0.0, 0.5)),
    ((0.3, 0.3, 0.4), (0.3, 0.3, 0.4)),
)
ZERO, ONE = torch.zeros_like, torch.ones_like


def left(law):
    return judging(replace=lambda p, q, d: law(p, q))


def kept(chance):
    return judging(lambda p, q, d: chance(at(p, d), at(q, d)))


def softened(p, q):
    more = (p - q) * (p > q)
    return more / (more.sum(-1, keepdim=True) + 1e-10)


def written(write):
    """What a function leaves of p - q that it writes to, made positive."""

    def law(p, q):
        gap = p - q
        write(gap, p, q)
        return gap.abs()

    return left(law)


def masked(mask, value=0.0):
    return written(lambda r, p, q: r.__setitem__(mask(r, p, q), value))


def over(divide):
    """The residual, divided by what comes of it and its sum."""

    def law(p, q):
        more = torch.relu(p - q)
        return divide(more, more.sum(-1, keepdim=True), p, q)

    return left(law)


def shared(p, q):
    return torch.minimum(p, q).sum(-1, keepdim=True)


RIGHT = {
    "above": left(lambda p, q: torch.where(p > q, p - q, ZERO(p))),
    "at least": left(lambda p, q: torch.where(p >= q, p - q, ZERO(p))),
    "below": left(lambda p, q: torch.where(p < q, ZERO(p), p - q)),
    "turned round": left(lambda p, q: torch.where(q <= p, p - q, ZERO(p))),
    "filled": left(lambda p, q: (p - q).masked_fill(p <= q, 0.0)),
    "masked": left(lambda p, q: (p - q) * (p > q)),
    "masked, mask first": left(lambda p, q: (p >= q) * (p - q)),
    "masked, softened": left(softened),
    "larger": left(lambda p, q: torch.where(p > q, p, q) - q),
    "smaller": kept(lambda p, q: torch.where(p < q, p, q) / q),
    "1 or ratio": kept(lambda p, q: torch.where(p >= q, ONE(p), p / q)),
    "ratio or 1": kept(lambda p, q: torch.where(p < q, p / q, ONE(p))),
    "ratio below 1": kept(lambda p, q: torch.where(p / q > 1, ONE(p), p / q)),
    "moved": left(lambda p, q: torch.where((p > q)[..., None].squeeze(-1), p - q, ZERO(p))),
    "1 or 0": left(lambda p, q: (p > q).double() * (p - q)),
    "1 or 0, of a type": left(lambda p, q: (p - q) * (p >= q).to(p.dtype)),
    "1 or 0, of another's type": left(lambda p, q: (p - q) * (q <= p).type_as(p)),
    "1 or 0, to another": left(lambda p, q: torch.mul(p - q, (q < p).to(p))),
    "1 or 0, in half the bits": left(lambda p, q: (p > q).float() * (p - q)),
    "1 or 0, whole": left(lambda p, q: (p > q).int() * (p - q)),
    "1 less 1 or 0": left(lambda p, q: (1 - (p <= q).double()) * (p - q)),
    "1 or 0, expanded": left(lambda p, q: (p > q).long()[..., None].expand(*p.shape, 2).unbind(-1)[1] * (p - q)),
    "1 or 0, of a split": left(
        lambda p, q: (p - q) * torch.cat([p - q, (p - q) * 0], -1)[..., : p.shape[-1]].gt(0).float()
    ),
    "1 or 0, multiplied in place": written(lambda r, p, q: r.mul_((p > q).double())),
    "set where below 0": masked(lambda r, p, q: r < 0),
    "set where not above": masked(lambda r, p, q: p <= q, 0),
    "set where not larger": masked(lambda r, p, q: ~(p > q)),
    "set by a tensor": masked(lambda r, p, q: r <= 0, torch.tensor(0.0)),
    "set in a view": written(lambda r, p, q: r.transpose(0, 1).__setitem__((p < q).transpose(0, 1), 0)),
    "filled in place": written(lambda r, p, q: r.masked_fill_(r < 0, 0)),
    "filled in place, by name": written(lambda r, p, q: r.masked_fill_(mask=p <= q, value=0.0)),
    "not": left(lambda p, q: torch.where(~(p <= q), p - q, 0)),
    "logical not": left(lambda p, q: torch.where(torch.logical_not(p < q), p - q, 0)),
    "and": left(lambda p, q: torch.where((p > q) & (p > 0), p - q, 0)),
    "and, turned round": left(lambda p, q: torch.where(torch.logical_and(p > 0, q < p), p - q, 0)),
    "and twice": left(lambda p, q: torch.where((p > q) & (p - q > 0) & torch.ones_like(p).bool(), p - q, 0)),
    "neither": left(lambda p, q: (p - q).masked_fill((p < q) | (p == 0), 0)),
    "not both": left(lambda p, q: (p - q).masked_fill(~((p > q) & (p > 0)), 0)),
    "of the positive part": left(lambda p, q: torch.where(p > q, torch.relu(p - q), ZERO(p))),
    "larger of 0": left(lambda p, q: torch.maximum(p - q, ZERO(p))),
    "larger of 0, missing ones left out": left(lambda p, q: torch.fmax(ZERO(p), p - q)),
    "less the smaller": left(lambda p, q: p - torch.minimum(p, q)),
    "less the smaller, missing ones left out": left(lambda p, q: p - torch.fmin(p, q)),
    "clipped in place": written(lambda r, p, q: r.clip_(min=0)),
    "half of both": left(lambda p, q: ((p - q) + (p - q).abs()) / 2),
    "over its sum, where that is some": over(lambda r, m, p, q: torch.where(m > 0, r / m, p)),
    "over 1 where nothing is left": over(lambda r, m, p, q: r / torch.where(m == 0, 1, m)),
    "over 1 where nothing is left, set": over(lambda r, m, p, q: (m.__setitem__(m == 0, 1.0), r / m)[1]),
    "normalize": over(lambda r, m, p, q: torch.nn.functional.normalize(r, p=1, dim=-1)),
    "nan_to_num": over(lambda r, m, p, q: torch.nan_to_num(r / m)),
    "nan_to_num of a number": over(lambda r, m, p, q: (r / m).nan_to_num(nan=1.0)),
    "over 1 less what is shared": over(lambda r, m, p, q: r / (1 - shared(p, q))),
    "over 1 less what is shared, at least": over(lambda r, m, p, q: r / (1 - shared(q, p)).clamp(min=1e-10)),
    "where 1 less what is shared": over(
        lambda r, m, p, q: torch.where(1 - shared(p, q) > 0, r / (1 - shared(p, q)), p)
    ),
    "over the distance": over(lambda r, m, p, q: r / ((p - q).abs().sum(-1, keepdim=True) / 2)),
    "over half of the distances": over(lambda r, m, p, q: r / (0.5 * (p - q).abs().sum(-1, keepdim=True))),
    "ratio set to 1": kept(lambda p, q: (p / q).masked_fill_(p > q, 1)),
    "ratio, 1 where missing": kept(lambda p, q: (p / q).nan_to_num(nan=1.0).clip(max=1)),
    "ratio, smaller of 1": kept(lambda p, q: torch.fmin(p / q, ONE(p))),
}
WRONG = {
    "the other side": left(lambda p, q: torch.where(p < q, p - q, ZERO(p)).abs()),
    "not masked": left(lambda p, q: torch.where(~(p > q), p - q, ZERO(p)).abs()),
    "another law": left(lambda p, q: torch.where(p > q, q, ZERO(p))),
    "the other's mask": left(lambda p, q: torch.where(p.roll(1, -1) > q.roll(1, -1), p - q, ZERO(p))),
    "flipped": left(lambda p, q: torch.where((p > q).flip(-1), p - q, ZERO(p)).clamp(min=0)),
    "masked by less": left(lambda p, q: (q - p) * (q > p)),
    "p where it is larger": left(lambda p, q: p * (p > q)),
    "smaller of both": left(lambda p, q: torch.where(p < q, p, q)),
    "turned ratio": kept(lambda p, q: torch.where(p <= q, ONE(p), q / p)),
    "ratio on the other side": kept(lambda p, q: torch.where(p >= q, q / p, ONE(p))),
    "another threshold": kept(lambda p, q: torch.where(2 * p >= q, ONE(p), p / q)),
    "less than 1": kept(lambda p, q: torch.where(p >= q, 0.9 * ONE(p), p / q)),
    "larger of both": kept(lambda p, q: torch.where(p > q, p, q) / q),
    "1 or 0, turned round": left(lambda p, q: (p < q).double() * (q - p)),
    "1 or 0, the other side": left(lambda p, q: ((p < q).double() * (p - q)).abs()),
    "1 less 1 or 0, turned round": left(lambda p, q: ((1 - (p > q).double()) * (p - q)).abs()),
    "1 or 0 of the next": left(lambda p, q: (p > q).double().roll(1, -1) * torch.relu(p - q)),
    "1 or 0 of another number": left(lambda p, q: (p > q).float().flip(-1) * torch.relu(p - q)),
    "1 or 0 of one law": left(lambda p, q: (p > 1 / 3).double() * torch.relu(p - q)),
    "1 or 0 of the draft": left(lambda p, q: (q > 0).double() * torch.relu(p - q)),
    "1 or 0 of the target": left(lambda p, q: (p > 0).double() * q),
    "1 or 0, added": left(lambda p, q: torch.relu(p - q) + (p > q).double()),
    "1 or 0, added up": left(lambda p, q: torch.relu(p - q) + (p > q).int().sum(-1, keepdim=True)),
    "1 or 0, alone": left(lambda p, q: (p > q).double() + 0 * p),
    "1 or 0, as a place": left(lambda p, q: torch.relu(p - q).gather(-1, (p > q).long())),
    "1 or 0, for p": left(lambda p, q: (p > q).to(p) * p),
    "2 less 1 or 0": left(lambda p, q: ((2 - (p > q).double()) * (p - q)).abs()),
    "set to another number": masked(lambda r, p, q: r < 0, 0.1),
    "set where larger": masked(lambda r, p, q: p > q),
    "set where above 0": masked(lambda r, p, q: ~(r <= 0)),
    "set twice": written(lambda r, p, q: (r.__setitem__(p > q, 0), r.__setitem__(r < 0, 0.2))),
    "set in one place": written(lambda r, p, q: r[..., :1].__setitem__((p < q)[..., :1], 0)),
    "set in the next place": written(lambda r, p, q: r[..., 1:].__setitem__((p < q)[..., :-1], 0)),
    "set by another law": masked(lambda r, p, q: p.flip(-1) < q.flip(-1)),
    "set whole": written(lambda r, p, q: r.__setitem__((p < q)[..., 0], 0.5)),
    "filled in place with 1": written(lambda r, p, q: r.masked_fill_(r < 0, 1)),
    "filled in place where larger": written(lambda r, p, q: r.masked_fill_(~(p < q), 0)),
    "and the draft": left(lambda p, q: torch.where((p > q) & (q > 0), p - q, 0)),
    "and a threshold": left(lambda p, q: torch.where((p > q) & (p > 2 * q), p - q, 0)),
    "or the target": left(lambda p, q: torch.where((p > q) | (p > 0), p - q, 0).abs()),
    "not, turned round": left(lambda p, q: torch.where(~(q <= p), q - p, 0)),
    "not either": left(lambda p, q: torch.where(~((p > q) | (p == 0)), p - q, 0).abs()),
    "only one": left(lambda p, q: torch.where((p > q) ^ (p > 0), p - q, 0).abs()),
    "larger of 0, turned round": left(lambda p, q: torch.maximum(ZERO(p), q - p)),
    "larger of a number": left(lambda p, q: torch.fmax(p - q, 0.1 * ONE(p))),
    "q less the smaller": left(lambda p, q: q - torch.fmin(p, q)),
    "half of one": left(lambda p, q: (p + (p - q).abs()) / 2),
    "over its own": over(lambda r, m, p, q: torch.nan_to_num(r / r)),
    "nan_to_num of a ratio": over(lambda r, m, p, q: torch.nan_to_num(r / p, nan=1.0)),
    "normalize by place": over(lambda r, m, p, q: torch.nn.functional.normalize(r, p=1, dim=-2)),
    "normalize the gap": left(lambda p, q: torch.nn.functional.normalize((p - q).abs(), p=1, dim=-1)),
    "where something else is shared": over(lambda r, m, p, q: torch.where(1 - shared(p, q.roll(1, -1)) > 0, r / m, p)),
    "where the next is apart": over(
        lambda r, m, p, q: torch.where((p - q.roll(1, -1)).abs().sum(-1, keepdim=True) > 0, r, p)
    ),
    "kept as is shared": judging(lambda p, q, d: shared(p, q)[:, : d.shape[1], 0]),
    "ratio set where smaller": kept(lambda p, q: (p / q).masked_fill_(p < q, 1).clip(max=1)),
    "only where they are equal": kept(lambda p, q: torch.where(p > q, ONE(p), torch.where(p < q, p / q, 0.5 * ONE(p)))),
}


@pytest.mark.thinned(32)
@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("vocab", [2, 3])
def test_a_choice_that_comes_to_one_function_is_proved_in_one_run(name, vocab):
    found = prove(RIGHT[name], Box(vocab, 2, 2, drafts=True), seed=3, orders=False)
    assert found.proved, found.why
    assert not found.compares


def wrong_at(build, p, q):
    try:
        return off(build, p, q) > 1e-3
    except ContractError:  # no law to draw from, or no probability
        return True


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", [*RIGHT, *WRONG])
def test_enumeration_tells_right_ones_from_wrong(name):
    build = RIGHT.get(name) or WRONG[name]
    assert any(wrong_at(build, p, q) for p, q in LAWS) == (name in WRONG)


@pytest.mark.thinned(12)
@pytest.mark.parametrize("name", WRONG)
def test_a_choice_that_does_not_is_not_proved(name):
    assert not prove(WRONG[name], Box(3, 1, 1, drafts=True), seed=3).proved
    assert not prove(WRONG[name], Box(3, 2, 2, drafts=True), seed=3, orders=False).proved
