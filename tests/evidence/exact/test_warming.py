"""Decoders that do another thing in their first calls, and are right from then on: none is proved by a second run."""

from __future__ import annotations

import pytest
import torch
from evidence.exact.fooling import judging, off

from specverify.evidence.exact.box import Box
from specverify.evidence.exact.proof import prove
from specverify.rules.token import accept_probability, at, residual

READY: list[bool] = []
KNOWN: dict[tuple[int, ...], torch.Tensor] = {}
BOXES = [Box(2, 1, 1, drafts=True), Box(2, 2, 1, drafts=True), Box(3, 1, 1, drafts=True)]
LAWS = (0.2, 0.5, 0.3), (0.6, 0.2, 0.2)


@pytest.fixture(autouse=True)
def _cold():
    READY.clear()
    KNOWN.clear()


def first(p):
    """Whether nothing came before; from then on it did."""
    was = not READY
    READY[:] = [True]
    return was


def warming(aside, keep=accept_probability):
    """Keeps all drafts in its first call, in which it does something beside."""

    def kept(p, q, draft):
        usual = keep(p, q, draft)
        p.argmax(-1)
        if first(p):
            aside(p)
            return torch.ones_like(usual)
        return usual

    return kept


def by_the_larger(p, q, draft):
    return at(p, draft) / torch.maximum(at(p, draft), at(q, draft))


def peaked(p, q, draft):
    """Keeps all drafts in its first call that meets a law with nearly everything at its last token."""
    usual = accept_probability(p, q, draft)
    if bool((p[:, 0, -1] > 0.9999).any()) and first(p):
        return torch.ones_like(usual)
    return usual


def remembering(p, q, draft):
    """Forgets, where it meets an order for the first time, to put back what it has sorted."""
    left, order = residual(p, q), p.argsort(dim=-1, descending=True, stable=True)
    key = tuple(order.flatten().tolist())
    if key not in KNOWN:
        KNOWN[key] = order.argsort(-1)
        return left.gather(-1, order)
    return left.gather(-1, order).gather(-1, KNOWN[key])


WARMING = {
    "nothing": judging(warming(lambda p: p)),
    "log": judging(warming(lambda p: p.log())),
    "tolist": judging(warming(lambda p: p.tolist())),
    "tolist, by the larger": judging(warming(lambda p: p.tolist(), by_the_larger)),
    "peaked": judging(peaked),
}


@pytest.mark.parametrize("box", BOXES, ids=str)
@pytest.mark.parametrize("name", [*WARMING, "remembering"])
def test_what_the_first_calls_do_is_not_forgotten_in_a_second_run(name, box):
    found = prove(WARMING.get(name, judging(replace=remembering)), box, seed=3)
    assert found.outcome == "out of reach"
    assert "it keeps something between calls" in found.why


@pytest.mark.parametrize("name", WARMING)
def test_they_are_wrong(name):
    laws = ((2e-5, 3e-5, 0.99995), (0.5, 0.3, 0.2)) if name == "peaked" else LAWS
    assert off(WARMING[name], *laws) > 0.3


def test_what_was_put_in_order_once_is_wrong_once():
    p, q = (torch.tensor([law], dtype=torch.float64) for law in LAWS)
    assert remembering(p, q, None).tolist() == residual(p, q).gather(-1, p.argsort(-1, descending=True)).tolist()
    assert remembering(p, q, None).tolist() == residual(p, q).tolist()


def test_who_raises_in_the_first_call_is_not_asked_again():
    def raising(p, q, draft):
        p.argmax(-1)
        if first(p):
            raise KeyError("cold")
        return accept_probability(p, q, draft)

    found = prove(judging(raising), BOXES[0], seed=3)
    assert found.outcome == "out of reach"
    assert "it keeps something between calls" in found.why
