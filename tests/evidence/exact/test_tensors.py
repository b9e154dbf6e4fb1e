"""Tensors whose numbers have names: what moves numbers moves names, and what cannot be followed is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from specverify.evidence.exact.algebra import Algebra
from specverify.evidence.exact.numbers import Numbers, OutOfReach
from specverify.evidence.exact.tensors import Named, Unseen

P = torch.tensor([[0.21, 0.34, 0.45], [0.62, 0.11, 0.27]], dtype=torch.float64)
Q = torch.tensor([[0.37, 0.51, 0.12], [0.33, 0.48, 0.19]], dtype=torch.float64)


@pytest.fixture
def named():
    made = Named(Algebra(Numbers(seed=3)))
    for law in (P, Q):
        rows = torch.tensor([made.numbers.law(row) for row in law.tolist()], dtype=torch.int64)
        made.bind(law, rows, lasting=True)
    return made


FOLLOWED = {
    "gather": lambda: P.gather(1, torch.tensor([[2], [0]])),
    "index": lambda: P[torch.arange(2), torch.tensor([2, 1])],
    "slice": lambda: P[:, 1:],
    "cat": lambda: torch.cat([P, Q, torch.ones(1, 3, dtype=torch.float64)]),
    "stack": lambda: torch.stack([P, Q], 1).transpose(0, 1).reshape(-1),
    "where": lambda: torch.where(torch.tensor([True, False, True]), P, 0.5),
    "masked_fill": lambda: P.masked_fill(torch.tensor([[True], [False]]), 0.0),
    "scatter": lambda: P.scatter(1, torch.tensor([[0], [2]]), 0.0),
    "scatter of laws": lambda: P.scatter(1, torch.tensor([[0], [2]]), Q),
    "scatter_add": lambda: P.scatter_add(1, torch.tensor([[0, 0], [2, 1]]), Q),
    "index_add": lambda: torch.zeros_like(P).index_add_(1, torch.tensor([0, 1, 0]), P),
    "pad": lambda: pad(P, (0, 1)),
    "arithmetic": lambda: (1 - P) * Q / (P + 2) - Q,
    "residual": lambda: (P - Q).clamp(min=0) / (P - Q).clamp(min=0).sum(-1, keepdim=True),
    "ratio": lambda: (P / Q).clamp(max=1),
    "minimum": lambda: torch.minimum(P, Q).sum(),
    "absolute": lambda: (P - Q).abs().sum(-1) / 2,
    "mean": lambda: P.mean(-1),
    "running": lambda: P.cumprod(-1) + Q.cumsum(-1),
    "matmul": lambda: P @ Q.T,
    "power": lambda: P**2 + P.square(),
    "negative": lambda: (-(P - Q)).relu(),
    "tested": lambda: torch.where(P > 0, P, Q),
    "1 or 0": lambda: (P > 0).double() * Q + (1 - (P <= Q).double()) * (P - Q),
    "set by a mask": lambda: _set_by_a_mask(),
    "normalize": lambda: torch.nn.functional.normalize(P - Q, p=1, dim=0),
    "addcmul": lambda: torch.addcmul(P, Q[:1], Q - P, value=0.5),
    "addcmul in place": lambda: P.clone().addcmul_(Q, P),
    "addcdiv": lambda: torch.addcdiv(P, P - Q, Q, value=2),
    "lerp": lambda: P.lerp(Q, 0.25) + torch.lerp(P, Q, P),
    "addmm": lambda: torch.addmm(P @ P.T, P, Q.T, beta=0.5, alpha=2),
    "dot": lambda: torch.dot(P[0], Q[1]),
    "outer": lambda: torch.outer(P[0], Q[1]),
    "reciprocal": lambda: (P + 1).reciprocal(),
    "einsum": lambda: torch.einsum("rv,rv->r", P, Q),
    "einsum of matrices": lambda: torch.einsum("rv,sv", P, Q),
    "einsum turned round": lambda: torch.einsum("rv,sw,rw->vsr", P, Q, P),
    "joined tests": lambda: torch.stack([P > 0, P > Q, torch.ones(2, 3) > 0], 1).double() * (P - Q)[:, None],
    "in a view": lambda: _written_in_a_view(),
    "in place": lambda: _written_in_place(),
}


def _written_in_a_view():
    room = torch.zeros(2, 2, 3, dtype=torch.float64)
    room[1].copy_(P)
    room[0, :, 1] = Q[:, 0]
    return room + 0


def _set_by_a_mask():
    room = torch.zeros(2, 2, 3, dtype=torch.float64)
    room[0] = P - Q
    room[0, :, 1:][P[:, 1:] < Q[:, 1:]] = 0
    room[1][(P > 0)[:, 0]] = 0.5
    return room[:, :, 1:] + 0


def _written_in_place():
    room = P.clone()
    room -= Q
    room.clamp_(min=0)
    room[:, 0] = 0
    return room


@pytest.mark.parametrize("name", FOLLOWED)
def test_names_stand_for_the_values_that_torch_computes(named, name):
    due = FOLLOWED[name]()
    with Unseen(named), named:
        came = FOLLOWED[name]()
    assert torch.equal(came, due)
    assert named.has_names(came)
    torch.testing.assert_close(named.values(named.names(came)), due, rtol=0, atol=1e-12)


REFUSED = {
    "item": lambda: P[0, 0].item(),
    "tolist": lambda: P.tolist(),
    "bool": lambda: bool(P[0, 0]),
    "float": lambda: float(P[0, 0]),
    "numpy": lambda: P.numpy(),
    "array": lambda: np.asarray(P),
    "untyped_storage": lambda: P.untyped_storage(),
    "data_ptr": lambda: P.data_ptr(),
    "argmax": lambda: P.argmax(-1),
    "sort": lambda: P.sort(-1),
    "topk": lambda: P.topk(1),
    "log": lambda: P.log(),
    "softmax": lambda: P.softmax(-1),
    "remainder": lambda: P % 0.25,
    "round": lambda: P.round(),
    "multinomial": lambda: torch.multinomial(P, 1),
    "bernoulli": lambda: torch.bernoulli(P),
    "equal": lambda: torch.equal(P, Q),
    "isnan": lambda: P.isnan(),
    "format": lambda: f"{P}",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_meaning_for_unknown_laws_is_refused_by_name(named, name):
    with pytest.raises(OutOfReach, match=name), Unseen(named), named:
        REFUSED[name]()


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: P.float(), "float"),
        (lambda: P.to(torch.float32), "rounds|float32"),
        (lambda: P.to(torch.int64), "int64"),
        (lambda: P.view(torch.int64), "int64"),
        (lambda: P[P > 0], "outcome of a test"),
        (lambda: (P > 0).sum(), "outcome of a test"),
        (lambda: (P > 0).to(P.dtype) + P, "outcome of a test"),
        (lambda: (P > Q).double() + 0.0, "outcome of a test"),
        (lambda: (P > Q).float().sum(), "outcome of a test"),
        (lambda: (P > Q).double() / 2, "outcome of a test"),
        (lambda: 2 - (P > Q).double(), "outcome of a test"),
        (lambda: P / P - (P > Q).double(), "outcome of a test"),
        (lambda: torch.cat([P, (P > Q).double()]), "outcome of a test"),
        (lambda: (P > Q).double().tolist(), "tolist"),
        (lambda: bool((P > Q).long()[0, 0]), "bool"),
        (lambda: P.gather(1, (P > Q).long()), "outcome of a test"),
        (lambda: (P > Q).double().view(torch.int64), "bits"),
        (lambda: (P > Q).view(torch.uint8), "bits"),
        (lambda: (P > Q).double()[0].copy_(P[0]), "outcome of a test"),
        (lambda: P.clone().copy_((P > Q).double()), "outcome of a test"),
        (lambda: (P > Q).double().mul_(P - Q), "outcome of a test"),
        (lambda: (P > Q).double().fill_(0.0), "outcome of a test"),
        (lambda: (P > Q).double().__setitem__(0, 0.0), "outcome of a test"),
        (lambda: (P > Q).__setitem__(0, True), "bool"),
        (lambda: (P > Q).long().index_copy(1, torch.tensor([0]), torch.ones(2, 1, dtype=torch.int64)), "index_copy"),
        (lambda: (P > 0).long().index_put((torch.tensor([0]),), torch.tensor(1)), "index_put"),
        (lambda: torch.ones(2, dtype=torch.float64)[0].sub_((P > Q)[0, 0].double()), "outcome of a test"),
        (lambda: (P > Q).logical_not_(), "logical_not"),
        (lambda: (P > Q) ^ (P > 0), "order depends"),
        (lambda: ((P > Q) & (P > 0)).any(), "order depends"),
        (lambda: P[:1].expand(3, 3).__setitem__(P[:1].expand(3, 3) > 0, 0.0), "clone"),
        (lambda: P.clone().__setitem__(P > Q, Q[P > Q]), "outcome of a test"),
        (lambda: P.clone().__setitem__(P[:1] > Q[:1], torch.tensor([0.0])), "several numbers|mask"),
        (lambda: P.clone().__setitem__((P > Q).long(), 0.0), "outcome of a test"),
        (lambda: P.isnan(), "divided by"),
        (lambda: (P / Q).nan_to_num(nan=float("inf")), "inf"),
        (lambda: torch.nn.functional.normalize(P), "p=1"),
        (lambda: torch.where(P > 0, 1, 0), "decides more"),
        (lambda: bool((P > 0).all()), "bool"),
        (lambda: (P > Q).any(), "order depends"),
        (lambda: torch.where(P > Q, P, 2 * Q), "order depends"),
        (lambda: P / Q * (Q > 0), "come of a division"),
        (lambda: (P > Q) * P, "order depends"),
        (lambda: torch.full((3,), 0.1234567891234567, dtype=torch.float64) * P, "no short fraction"),
        (lambda: torch.rand(3, dtype=torch.float64) * P, "draws random numbers by torch.rand"),
        (lambda: torch.add(P, Q, out=torch.empty(2, 3, dtype=torch.float64)), "add"),
    ],
)
def test_what_would_let_a_value_out_is_refused(named, made, said):
    with pytest.raises(OutOfReach, match=said), Unseen(named), named:
        made()


def test_who_catches_a_refusal_is_refused_again(named):
    with Unseen(named), named:
        with pytest.raises(OutOfReach, match="argmax"):
            P.argmax(-1)
        with pytest.raises(OutOfReach, match="argmax"):
            P + Q


def test_modes_that_are_switched_off_hide_nothing(named):
    def hidden():
        with torch._C.DisableTorchFunction():
            return P + 1

    with pytest.raises(OutOfReach, match="where nobody can look"), Unseen(named), named:
        hidden()


def test_what_is_certain_is_no_secret(named):
    with Unseen(named), named:
        assert bool((P >= 0).all())
        assert not bool((P > 1).any())


def test_a_write_that_went_unseen_is_found_out(named):
    def written():
        law = P.clone()
        with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
            law[0, 0] = 0.7
        return law * 2

    with pytest.raises(OutOfReach, match="cannot be followed"), Unseen(named), named:
        written()
