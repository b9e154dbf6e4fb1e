"""No law, nor what came of one, outlives a call of a decoder that is proved, but in its state."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from specverify.decoders import DraftModel, Speculative
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.proof import prove

VALUE = 0.37
MEMO: dict[str, Any] = {}


@dataclasses.dataclass
class Kept:
    """A state that looks at laws as it is made."""

    inner: Any
    law: Any

    def __post_init__(self):
        if isinstance(self.law, torch.Tensor) and self.law.is_floating_point():
            MEMO["seen"] = self.law.reshape(-1).tolist()


class Stashing:
    """Speculative decoding that puts the laws that it is shown somewhere."""

    name = "stashing"

    def __init__(self, settings, put):
        self.inner, self.put = Speculative(DraftModel(settings.draft_model), settings.window), put

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        self.put(model.laws(state.context, torch.zeros(len(state.length), 0, dtype=torch.int64)))
        return self.inner.step(state, model, draws)


class Other:
    """An object of no state."""


def written():
    """A function with a text."""


PLACES = {
    "a list": lambda law: MEMO.setdefault("laws", []).append(law),
    "a view in a list": lambda law: MEMO.setdefault("laws", []).append(law[..., :1]),
    "a test in a list": lambda law: MEMO.setdefault("laws", []).append(law[..., 0] == VALUE),
    "an attribute of a class": lambda law: setattr(Other, "law", law),
    "an annotation": lambda law: Other.__annotations__.__setitem__("law", law),
    "a function's text": lambda law: setattr(written, "__doc__", law),
}


@pytest.mark.thinned(2)
@pytest.mark.parametrize("place", PLACES)
def test_no_law_outlives_a_call_outside_of_the_state(place):
    try:
        found = prove(lambda settings: Stashing(settings, PLACES[place]), Box(2, 2, 1, drafts=True), seed=1)
    finally:
        MEMO.clear()
        written.__doc__ = None
        Other.__annotations__.clear()
        if hasattr(Other, "law"):
            del Other.law
    assert not found.proved
    assert "keeps" in found.why


def test_who_looks_and_puts_nothing_anywhere_is_proved():
    found = prove(lambda settings: Stashing(settings, torch.Tensor.sum), Box(2, 2, 1, drafts=True), seed=1)
    assert found.proved, found.why


class Looking(Stashing):
    """A decoder whose state's own code reads laws."""

    def step(self, state, model, draws):
        given = state.inner if isinstance(state, Kept) else state
        Kept(given, None)
        after, done = self.inner.step(given, model, draws)
        law = model.laws(given.context, torch.zeros(len(given.length), 0, dtype=torch.int64))
        return Kept(after, law), done


def test_code_of_a_state_is_watched():
    found = prove(lambda settings: Looking(settings, None), Box(2, 2, 1, drafts=True), seed=1)
    assert not found.proved
    assert "tolist" in found.why
    assert MEMO == {}
