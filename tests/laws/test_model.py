"""The protocol of models over continuous tokens, and the wrapper that checks it."""

import pytest
import torch

from specverify import tree
from specverify.errors import InputError
from specverify.laws import CheckedContinuous, ContinuousModel, Gaussian
from toymodels import continuous


class Broken:
    """A toy whose laws went through a change."""

    def __init__(self, change, **attributes):
        self.inner, self.change = continuous.toy("gauss-2x6"), change
        for name in ("name", "dim", "length", "dtype", "device"):
            setattr(self, name, attributes.get(name, getattr(self.inner, name)))

    def start(self, batch):
        return self.inner.start(batch)

    def laws(self, context, draft):
        return self.change(self.inner.laws(context, draft))

    def advance(self, context, tokens, count):
        return self.inner.advance(context, tokens, count)


def forward(model, draft):
    return model.laws(model.start(len(draft)), draft)


draft = torch.tensor([[[0.1, 0.2], [0.3, 0.4]], [[1.0, 2.0], [3.0, 4.0]]], dtype=torch.float64)


def test_a_good_model_is_passed_through():
    plain = continuous.toy("gauss-2x6")
    model = CheckedContinuous(plain)
    assert isinstance(model, ContinuousModel)
    laws = forward(model, draft)
    assert torch.equal(laws.mean, forward(plain, draft).mean)
    context = model.advance(model.start(2), torch.cat([draft[:, :1], draft[:, :1] + 5], 1), torch.tensor([2, 0]))
    assert torch.equal(context.state[1], plain.start(1).state[0])
    assert not torch.equal(context.state[0], plain.start(1).state[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: CheckedContinuous(Broken(None, dim=0)),
            "model 'gauss-2x6' has dimension 0 and length 6; both must be",
        ),
        (lambda: CheckedContinuous(Broken(None)).start(0), "cannot start a batch of 0 sequences"),
        (
            lambda: forward(CheckedContinuous(Broken(None)), draft[..., :1]),
            "the draft tokens have 1 coordinates, but model",
        ),
        (
            lambda: forward(CheckedContinuous(Broken(None)), draft.float()),
            "have dtype torch.float32, but those of model",
        ),
        (lambda: forward(CheckedContinuous(Broken(None)), draft * torch.inf), "the draft tokens hold inf; tokens are"),
        (
            lambda: forward(
                CheckedContinuous(Broken(lambda law: tree.map_tensors(law, lambda part: part[:, 1:]))), draft
            ),
            r"gave laws of shape \(2, 2\) and dimension 2, expected \(2, 3\) and 2",
        ),
        (
            lambda: forward(CheckedContinuous(Broken(lambda law: Gaussian(law.mean, -law.scale))), draft),
            r"a law of model 'gauss-2x6' has the standard deviation -\d",
        ),
        (
            lambda: CheckedContinuous(Broken(None)).advance(None, draft, torch.tensor([3, 0])),
            r"cannot advance by \[3, 0\] of 2 tokens",
        ),
    ],
)
def test_bad_models_and_calls_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
