"""A counter is noticed in every place where a decoder can have one."""

from __future__ import annotations

import dataclasses
import enum
import logging

import pytest
import torch
from evidence.exact.fooling import judging

from specverify.decoders.protocol import State
from specverify.enumerated import Enumerated
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.proof import prove
from toymodels.tables import Prefix, TableModel

BOX = Box(2, 2, 1, drafts=True)


class Mode(enum.Enum):
    """One way to run."""

    EXACT = 1


@dataclasses.dataclass
class Options:
    """With a field that can be written to."""

    window: int = 1


class Ours:
    """A class that says it is of the product, and in C."""

    __module__, __flags__ = "toymodels.cache", 0
    calls = 0

    def laws(self):
        """As a model has it."""


def texted():
    """0"""


LOG = logging.getLogger("evidence.exact.test_counters")


class Counting:
    """Speculative decoding with a counter somewhere."""

    name = "counting"
    x: int

    def __init__(self, settings, count):
        self.inner, self.count, self.module = judging()(settings), count, torch
        self.scratch = TableModel("own", torch.tensor([[0.5, 0.5]]), 1)
        self.options, self.mode, self.ours = Options(), Mode.EXACT, Ours()

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        self.count(self, state, model, draws)
        return self.inner.step(state, model, draws)


def more(owner):
    owner.calls = getattr(owner, "calls", 0) + 1


def registered(owner):
    owner.calls = getattr(owner, "calls", None) or {"look": print}
    owner.calls[len(owner.calls)] = 1


def in_a_text(owner):
    owner.__doc__ = (owner.__doc__ or "") + "."


def in_annotations(self, *_):
    notes = type(self).__annotations__
    notes["calls"] = notes.get("calls", 0) + 1


def in_a_field(self, *_):
    field = Options.__dataclass_fields__["window"]
    field.kw_only = int(field.kw_only) + 1


def in_code(*_):
    texted.__code__ = texted.__code__.replace(co_firstlineno=texted.__code__.co_firstlineno + 1)


def in_the_file_of_code(*_):
    texted.__code__ = texted.__code__.replace(co_filename=texted.__code__.co_filename + "x")


def in_the_memory_of_a_logger(*_):
    LOG._cache[len(LOG._cache) + 100] = True


COUNTERS = {
    "annotations": in_annotations,
    "a class's text": lambda self, *_: in_a_text(type(self)),
    "a function's text": lambda *_: in_a_text(texted),
    "a field": in_a_field,
    "code": in_code,
    "the file of code": in_the_file_of_code,
    "an enumeration": lambda self, *_: more(self.mode),
    "a logger": lambda *_: more(LOG),
    "a logger's memory": in_the_memory_of_a_logger,
    "a model of its own": lambda self, *_: more(self.scratch),
    "a class of its own": lambda self, *_: more(self.ours),
    "a library that it holds": lambda self, *_: more(self.module),
    "the model": lambda self, state, model, draws: more(model),
    "the model's class": lambda self, state, model, draws: more(type(model)),
    "a registry in the model's class": lambda self, state, model, draws: registered(type(model)),
    "the model's table": lambda self, state, model, draws: more(model.table),
    "the draws' class": lambda self, state, model, draws: more(type(draws).__mro__[1]),
    "the state's class": lambda self, state, model, draws: more(type(state)),
    "the context's class": lambda self, state, model, draws: more(type(state.context)),
    "the class of tensors": lambda self, state, model, draws: more(type(state.tokens)),
}


@pytest.fixture
def tidy():
    """Takes away what was counted."""
    written = texted.__code__, texted.__doc__, Counting.__doc__
    yield
    texted.__code__, texted.__doc__, Counting.__doc__ = written
    Counting.__annotations__.pop("calls", None)
    Options.__dataclass_fields__["window"].kw_only = False
    LOG._cache.clear()
    for owner in (torch, torch.Tensor, TableModel, Prefix, State, Enumerated, Ours, LOG, Mode.EXACT):
        if "calls" in vars(owner):
            del owner.calls
    Ours.calls = 0


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", COUNTERS)
@pytest.mark.usefixtures("tidy")
def test_no_counter_is_overlooked(name):
    found = prove(lambda settings: Counting(settings, COUNTERS[name]), BOX, seed=1)
    assert not found.proved
    assert "it keeps something between calls" in found.why


@pytest.mark.usefixtures("tidy")
def test_who_asks_a_logger_for_its_level_keeps_nothing():
    found = prove(lambda settings: Counting(settings, lambda *_: LOG.debug("not shown")), BOX, seed=1)
    assert found.proved, found.why
