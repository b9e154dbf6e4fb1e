"""What is kept is noticed wherever it is kept, and what is only looked at is not."""

from __future__ import annotations

import collections
import functools
import itertools
import random
import types
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from specverify.decoders.registry import Settings, build
from specverify.evidence.exact import keeping
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.keeping import changed, kept
from specverify.evidence.exact.numbers import OutOfReach
from specverify.evidence.exact.proof import prove
from specverify.evidence.relay import Watched
from toymodels.tables import TableModel

TALLY, WEIGHTS, BOARD = np.zeros(2), torch.zeros(3), types.SimpleNamespace(moves=0)


def helper():
    """Has an attribute."""


helper.seen = []


class Sd:
    """Speculative decoding with something beside it that every step may touch."""

    name = "touched"

    def __init__(self, settings=None, beside=None):
        self.inner, self.beside = settings and build("sd", settings), beside

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        self.touch()
        return self.inner.step(state, model, draws)

    def touch(self):
        """Change what is kept."""


def attribute(make, how):
    """A class that keeps what `make` makes, and changes it by `how`."""
    return type("Attribute", (Sd,), {"touch": lambda self: how(self.beside)}), make


def of(touch):
    """A class that changes something by a function of its own."""
    return type("Elsewhere", (Sd,), {"touch": touch}), lambda: None


def counter():
    """A class with a variable of its own around it."""
    calls = 0

    class Closed(Sd):
        def touch(self):
            nonlocal calls
            calls += 1

    return Closed, lambda: None


def defaulted(self, box=collections.Counter()):  # noqa: B006
    box["calls"] += 1


def on_a_class(self):
    type(self).calls = getattr(type(self), "calls", 0) + 1


def on_a_function(self):
    helper.seen.append(1)


def in_an_array(self):
    TALLY[1] += 1


def in_a_tensor(self):
    WEIGHTS.add_(1)


def in_an_object(self):
    BOARD.moves += 1


def in_another_module(self):
    from evidence.exact import fooling

    fooling.calls = getattr(fooling, "calls", 0) + 1


def in_a_library(self):
    torch.calls = getattr(torch, "calls", 0) + 1


@functools.lru_cache
def box():
    """Always the same list."""
    return [0]


def in_a_cache(self):
    box()[0] += 1


@dataclass(slots=True)
class Slotted:
    """An object without a dictionary."""

    calls: int = 0
    deep: list = field(default_factory=lambda: [[[[[[0]]]]]])


def deeper(slotted):
    slotted.deep[0][0][0][0][0][0] += 1


def more(slotted):
    slotted.calls += 1


def fill(tensor):
    tensor[1:].add_(1)


def turned(generator):
    generator.random()


CHANGING = {
    "tensor": attribute(lambda: torch.zeros(4), fill),
    "part of a tensor": attribute(lambda: torch.zeros(4)[2:], lambda x: x.untyped_storage().fill_(1)),
    "array": attribute(lambda: np.zeros(4), lambda x: x.__setitem__(0, x[0] + 1)),
    "array of objects": attribute(lambda: np.array([[1], None], dtype=object), lambda x: x[0].append(1)),
    "set": attribute(lambda: {0}, lambda x: x.add(x.pop() + 1)),
    "deque": attribute(lambda: collections.deque([1, 2]), lambda x: x.rotate()),
    "count": attribute(itertools.count, next),
    "cycle": attribute(lambda: itertools.cycle("ab"), next),
    "iterator": attribute(lambda: iter(range(10**6)), next),
    "generator": attribute(lambda: (x for x in range(10**6)), next),
    "random": attribute(lambda: random.Random(1), turned),
    "numpy's random": attribute(lambda: np.random.default_rng(1), turned),
    "torch's random": attribute(torch.Generator, lambda x: torch.rand(1, generator=x)),
    "bytes": attribute(lambda: bytearray(2), lambda x: x.append(1)),
    "ordered": attribute(lambda: collections.OrderedDict(a=1, b=1), lambda x: x.move_to_end(next(iter(x)))),
    "slot": attribute(Slotted, more),
    "deep": attribute(Slotted, deeper),
    "partial": attribute(lambda: functools.partial(list.append, []), lambda x: x(1)),
    "module": attribute(lambda: torch.nn.Linear(2, 2), lambda x: x.weight.data.add_(1)),
    "closure": counter(),
    **{
        how.__name__: of(how)
        for how in (
            *(defaulted, on_a_class, on_a_function, in_an_array, in_a_tensor),
            *(in_an_object, in_another_module, in_a_library, in_a_cache),
        )
    },
}


@pytest.mark.parametrize("name", CHANGING)
def test_what_changes_is_noticed_and_what_does_not_is_not(name):
    kind, make = CHANGING[name]
    decoder = kind(beside=make())
    before = kept(decoder)
    assert changed(before, kept(decoder)) == ""
    decoder.touch()
    assert changed(before, kept(decoder))


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["tensor", "set", "count", "slot", "closure", "defaulted", "in_another_module"])
def test_no_proof_is_given_to_who_keeps_count(name):
    kind, make = CHANGING[name]
    found = prove(lambda settings: kind(settings, make()), Box(2, 2, 2, drafts=True))
    assert found.outcome == "out of reach"
    assert "it keeps something between calls" in found.why


def test_who_only_reads_is_proved():
    class Reading(Sd):
        def touch(self, limits=(1, [2])):
            assert TALLY.sum() + WEIGHTS.sum() + BOARD.moves + len(helper.seen) + limits[0] + len(self.beside) > 0

    found = prove(lambda settings: Reading(settings, {"table": torch.ones(3)}), Box(2, 2, 2, drafts=True))
    assert found.proved, found.why


def test_what_cannot_be_looked_into_is_refused(tmp_path):
    with (tmp_path / "log").open("w") as log, pytest.raises(OutOfReach, match=r"TextIOWrapper in Sd\.beside"):
        kept(Sd(beside=log))


def test_too_much_is_refused(monkeypatch):
    with pytest.raises(OutOfReach, match="more than 20,000 objects"):
        kept(Sd(beside=[[x] for x in range(30_000)]))
    monkeypatch.setattr(keeping, "BYTES", 100)
    with pytest.raises(OutOfReach, match="more than 100 bytes"):
        kept(Sd(beside=torch.zeros(30)))


def test_the_environment_and_what_is_hung_on_a_model_are_kept_too(monkeypatch):
    model, decoder = types.SimpleNamespace(vocab=2), Sd()
    before = kept(decoder, model)
    model.calls = 1
    assert "calls" in changed(before, kept(decoder, model))
    monkeypatch.setenv("CALLS", "1")
    assert changed(kept(decoder, model), before)


def test_what_a_guard_counts_on_a_draft_model_is_not_the_decoders_and_what_is_put_there_is():
    """A judged decoder is given a draft model that is watched, and is to be PROVED with it."""
    draft = Watched(TableModel("draft", torch.tensor([[0.5, 0.5]], dtype=torch.float64), 1))
    decoder = build("sd", Settings(window=1, draft_model=draft))
    before = kept(decoder)
    draft.laws(draft.start(1), torch.zeros(1, 0, dtype=torch.int64))
    assert draft.calls == 1
    assert changed(before, kept(decoder)) == ""
    for owner in (draft, draft.inner):
        owner.mine = 1
        assert changed(before, kept(decoder)).startswith("Speculative.drafting.model")
        del owner.mine
