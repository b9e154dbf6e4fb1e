"""Decoders of ids that each break the contract in one way, and the reason that each must get."""

import random
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from specverify.decoders import Autoregressive, Jacobi, Speculative


class Subject:
    """Plain decoding, with something wrong in its step."""

    inner = Autoregressive()

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        return self.inner.step(state, model, draws)


class Jacobian(Subject):
    """As `Subject`, with drafts."""

    inner = Speculative(Jacobi(), 2)


class Raises(Subject):
    def step(self, state, model, draws):
        after, info = super().step(state, model, draws)
        if bool((after.length == model.length).any()):
            raise ZeroDivisionError("no more tokens")
        return after, info


class RaisesInInit(Subject):
    def init(self, model, batch, draws):
        raise KeyError("weights")


class RaisesLate(Subject):
    """Only where two tokens of a kind come in a row."""

    def step(self, state, model, draws):
        after, info = super().step(state, model, draws)
        tokens = after.tokens
        assert not ((tokens[:, 1:] == 1) & (tokens[:, :-1] == 1)).any(), "two ones"
        return after, info


class WrongShape(Subject):
    def step(self, state, model, draws):
        after, info = super().step(state, model, draws)
        return replace(after, tokens=after.tokens[:, :-1]), info


class TooFew(Subject):
    def init(self, model, batch, draws):
        return super().init(model, max(1, batch // 2), draws)


class FloatLength(Subject):
    def init(self, model, batch, draws):
        state = super().init(model, batch, draws)
        return replace(state, length=state.length.double())


class OutOfRange(Subject):
    def step(self, state, model, draws):
        after, info = super().step(state, model, draws)
        return replace(after, tokens=after.tokens.masked_fill(after.tokens == 1, model.vocab)), info


class DraftOutOfRange(Subject):
    def step(self, state, model, draws):
        model.laws(state.context, state.tokens[:, :1] + model.vocab)
        return super().step(state, model, draws)


class StopsEarly(Subject):
    def step(self, state, model, draws):
        after, info = super().step(state, model, draws)
        return replace(after, done=after.done | (after.length == 1)), info


class NeverDone(Subject):
    def step(self, state, model, draws):
        after, info = super().step(state, model, draws)
        return replace(after, done=torch.zeros_like(after.done)), info


class Stuck(Subject):
    def step(self, state, model, draws):
        _, info = super().step(state, model, draws)
        return state, info


class Restarts(Subject):
    """Ignores its state."""

    def step(self, state, model, draws):
        return super().step(super().init(model, len(state.length), draws), model, draws)


class Rewrites(Subject):
    def step(self, state, model, draws):
        after, info = super().step(state, model, draws)
        return replace(after, tokens=torch.where(after.length[:, None] > 1, 0, after.tokens)), info


class Mutates(Subject):
    def step(self, state, model, draws):
        state.tokens[:, 0] = 0
        return super().step(state, model, draws)


class NoPair(Subject):
    def step(self, state, model, draws):
        return super().step(state, model, draws)[0]


class NoBranch(Subject):
    def step(self, state, model, draws):
        after, info = super().step(state, model, draws)
        parts = {name: value for name, value in vars(info).items() if name != "branch"}
        return after, SimpleNamespace(**parts)


class Miscounts(Subject):
    def step(self, state, model, draws):
        after, info = super().step(state, model, draws)
        return after, replace(info, emitted=info.emitted + 1)


class Misnames(Subject):
    def step(self, state, model, draws):
        after, info = super().step(state, model, draws)
        return after, replace(info, branch=info.branch * 0)


class Flat(Subject):
    """Asks for one coin for all rows."""

    def step(self, state, model, draws):
        draws.bernoulli(torch.tensor([0.5]).double(), torch.tensor([True]))
        return super().step(state, model, draws)


class Masks(Subject):
    def step(self, state, model, draws):
        draws.bernoulli(state.length[:, None] * 0.5, state.done)
        return super().step(state, model, draws)


class Uniform(Subject):
    def step(self, state, model, draws):
        draws.uniform(state.length * 0.5, ~state.done)
        return super().step(state, model, draws)


class TorchRandom(Subject):
    def step(self, state, model, draws):
        torch.rand(1)
        return super().step(state, model, draws)


class NumpyRandom(Subject):
    def step(self, state, model, draws):
        np.random.rand()  # noqa: NPY002
        return super().step(state, model, draws)


class OwnRandom(Subject):
    """Ignores its seed: tokens come from a generator of its own."""

    def __init__(self):
        self.random = random.Random(0)

    def step(self, state, model, draws):
        after, info = super().step(state, model, draws)
        token = torch.tensor([self.random.randrange(model.vocab) for _ in state.length])
        place = (state.length < model.length).long().cumsum(0) * 0 + state.length.clamp(max=model.length - 1)
        tokens = after.tokens.scatter(1, place[:, None], token[:, None])
        return replace(after, tokens=torch.where(state.done[:, None], after.tokens, tokens)), info


class Remembers(Jacobian):
    """Every seventh run has no bonus tokens."""

    runs = 0

    def init(self, model, batch, draws):
        Remembers.runs += 1
        self.inner = Speculative(Jacobi(), 2, bonus=Remembers.runs % 7 != 0)
        return super().init(model, batch, draws)


@dataclass(frozen=True)
class Counted:
    tokens: Tensor
    length: Tensor
    done: Tensor
    inner: object
    steps: int = 0


class CountsInPython(Subject):
    """Keeps a number in its state that is no tensor."""

    def init(self, model, batch, draws):
        state = super().init(model, batch, draws)
        return Counted(state.tokens, state.length, state.done, state)

    def step(self, state, model, draws):
        after, info = super().step(state.inner, model, draws)
        return Counted(after.tokens, after.length, after.done, after, state.steps + 1), info


class SharedTable(Subject):
    """Keeps a tensor in its state that has no row per sequence."""

    def init(self, model, batch, draws):
        return replace(super().init(model, batch, draws), drafting=torch.ones(model.vocab + 7))


class NotPadded(Subject):
    def step(self, state, model, draws):
        after, info = super().step(state, model, draws)
        behind = torch.arange(model.length) >= after.length[:, None]
        return replace(after, tokens=after.tokens.masked_fill(behind, 0)), info


BROKEN = {
    Raises: "step raised ZeroDivisionError: no more tokens (broken.py:",
    RaisesInInit: "init raised KeyError: 'weights'",
    RaisesLate: "step raised AssertionError: two ones",
    WrongShape: "the state's tokens has shape (1, 2) and torch.int64; expected (1, 3) and torch.int64",
    TooFew: "the state's tokens has shape (8, 3) and torch.int64; expected (16, 3) and torch.int64",
    FloatLength: "the state's length has shape (1,) and torch.float64; expected (1,) and torch.int64",
    OutOfRange: "committed token 2 is outside 0..1",
    DraftOutOfRange: "model.laws was given the draft 2; tokens are 0..1",
    StopsEarly: "a row is done after 1 of 3 tokens, without eos",
    NeverDone: "a row has all 3 tokens and is not done",
    Stuck: "step committed nothing after []; each step commits at least one token",
    Restarts: "step committed nothing after [",
    Rewrites: "step changed tokens that were committed",
    Mutates: "step changed its argument state.tokens in place; it must return a new one",
    NoPair: "step returned a State; it returns a pair: the next state, and an Info",
    NoBranch: "Info.branch is None; it is an integer tensor of shape (1, tokens per step)",
    Miscounts: "Info.emitted says 2, but the step committed 1",
    Misnames: "Info.branch is [0] where the step committed 1",
    Flat: "draws.bernoulli was asked for 1 rows; the batch has 2",
    Masks: "draws.bernoulli was given `where` of shape (1,), torch.bool; here it is a mask of shape (1, 1)",
    Uniform: "it asks for uniform draws, whose outcomes cannot be enumerated; ask for the decision itself",
    TorchRandom: "it drew from torch's global generator; all randomness comes from `draws`",
    NumpyRandom: "it drew from numpy's global generator; all randomness comes from `draws`",
    OwnRandom: "the same seed gave other tokens the second time: it keeps state between calls",
    Remembers: "it keeps state between calls, or has randomness of its own",
    CountsInPython: "the state's steps was 0 and is 1; what changes must be a tensor with one row per sequence",
    SharedTable: "the state's drafting has shape (9,); every tensor of a state has one row for each of the 1",
    NotPadded: "behind its end every token is eos, 1",
}
