"""More ways to be proved although wrong: own code where nobody looks, entropy, and counters of how often it was made.

Most are right wherever the proof runs them, and wrong at a law, by a rare coin, or after some calls.
"""

from __future__ import annotations

import dataclasses
import datetime
import gc
import importlib
import random
import secrets
import signal
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from evidence.exact.fooling import judging

from specverify.decoders.registry import Settings
from specverify.evidence.enumerate import enumerate_decoder, target_law
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.proof import prove
from specverify.rules.token import at
from toymodels.tables import TableModel

VALUE = 0.37
BOX = Box(2, 2, 1, drafts=True)


def keep(p, q, d):
    return (at(p, d) / at(q, d)).clamp(max=1.0)


def half(p, q, d):
    return torch.full_like(at(p, d), 0.5)


def model(*rows):
    return TableModel("laws", torch.tensor([[x, 1 - x] for x in rows], dtype=torch.float64), {1: 1, 3: 2}[len(rows)])


def reading(way):
    """Right but where `way` finds a value in the target's law."""

    def judged(p, q, d):
        seen: list[float] = []
        way(p, lambda *_, **__: seen.extend(p.reshape(-1).tolist()))
        return half(p, q, d) if VALUE in seen else keep(p, q, d)

    return judging(judged)


def made_up(*parts, by="_"):
    """A name that no code names."""
    return by.join(parts)


def as_torchs(p, look):
    """A function that torch is told is its own, by a name that is made up."""
    getattr(torch.overrides, made_up("wrap", "torch", "function"))(lambda x: (x,))(look)(torch.zeros(1))


def as_the_products(p, look):
    """An index of a class that says it is of the product."""
    kind = type("Index", (), {"__module__": "specverify.index", "__index__": lambda self: (look(), 0)[1]})
    torch.zeros(2)[kind()]


def in_a_list(p, look):
    """A list that is no plain one."""
    kind = type(
        "Sizes", (list,), {"__len__": lambda self: (look(), 1)[1], "__iter__": lambda self: iter([look() or 2])}
    )
    torch.zeros(2).reshape(kind([2]))


def replaced(owner, name):
    def way(p, look):
        before = getattr(owner, name)
        setattr(owner, name, lambda *args, **kwargs: (look(), before(*args, **kwargs))[1])
        try:
            torch.functional.split(torch.zeros(2), 1)
        finally:
            setattr(owner, name, before)

    return way


def replaced_code(p, look):
    """A method of torch's, made of another's code."""
    method = torch.Tensor.split
    before, torch._tensor.peek = method.__code__, look
    method.__code__ = (lambda self, split_size, dim=0: peek()).__code__  # noqa: F821
    try:
        torch.functional.split(torch.zeros(2), 1)
    finally:
        method.__code__ = before
        del torch._tensor.peek


def as_a_warning(p, look):
    before = warnings.showwarning
    warnings.showwarning = look
    try:
        torch.zeros(2).sum()
    finally:
        warnings.showwarning = before


def as_a_profile(p, look):
    def spy(*_):
        getattr(sys, made_up("set", "profile", by=""))(None)
        look()

    getattr(sys, made_up("set", "profile", by=""))(spy)
    torch.zeros(2).sum()


def as_a_signal(p, look):
    signal.signal(signal.SIGALRM, look)


def as_it_is_thrown_away(p, look):
    """Something that holds itself, and reads when it is found."""
    kind = type("Trap", (), {made_up("", "", "del", "", ""): look})
    trap = kind()
    trap.itself = trap


def with_the_collector(p, look):
    as_it_is_thrown_away(p, look)
    gc.enable()


SCRIPTED = "def has(x: Tensor, value: float) -> bool:\n    return bool((x == value).any())\n"


def without_dispatch(p, look):
    """What is compiled as it runs, with dispatch switched off by a name that is made up."""
    off = getattr(importlib.import_module(made_up("torch.utils.", "mode", "utils")), made_up("no", "dispatch"))
    unit = torch.jit.CompilationUnit(SCRIPTED)
    with off():
        found = unit.has(p, VALUE)
    if found:
        look()


READING = {
    way.__name__: way
    for way in (
        *(as_torchs, as_the_products, in_a_list, replaced_code, as_a_warning, as_a_profile, as_a_signal),
        *(as_it_is_thrown_away, with_the_collector, without_dispatch),
    )
} | {
    "replaced method": replaced(torch.Tensor, "split"),
}
ENUMERATED = ("as_torchs", "as_the_products", "replaced_code", "without_dispatch", "replaced method")


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", READING)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_law_is_read_by_code_that_runs_where_nobody_looks(name):
    collecting, alarm = gc.isenabled(), signal.getsignal(signal.SIGALRM)
    try:
        found = prove(reading(READING[name]), BOX, seed=1)
        assert gc.isenabled() == collecting
    finally:
        signal.signal(signal.SIGALRM, alarm)
        gc.collect()  # so that nothing of it reads in another's proof
    assert not found.proved
    if name in ENUMERATED:
        decoder = reading(READING[name])(Settings(1, draft_model=model(0.25)))
        assert enumerate_decoder(decoder, model(VALUE)).tv(target_law(model(VALUE))) > 0.2


LOOKING: list[bool] = []


@dataclasses.dataclass
class Carried:
    """Part of a state."""

    inner: object
    law: object


class Carrying:
    """A decoder whose state reads a law as it is thrown away."""

    name = "carrying"

    def __init__(self, settings):
        self.inner = judging(keep)(settings)

    def init(self, model, batch, draws):
        state = self.inner.init(model, batch, draws)
        return dataclasses.replace(state, drafting=Carried(state.drafting, torch.zeros(batch, 2, dtype=torch.float64)))

    def step(self, state, model, draws):
        law = model.laws(state.context, torch.zeros(len(state.length), 0, dtype=torch.int64))[:, 0]
        kind = type("Own", (Carried,), {made_up("", "", "del", "", ""): lambda part: LOOKING and part.law.tolist()})
        after, info = self.inner.step(dataclasses.replace(state, drafting=state.drafting.inner), model, draws)
        return dataclasses.replace(after, drafting=kind(after.drafting, law)), info


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_law_is_read_as_a_state_is_thrown_away():
    LOOKING.append(True)
    found = prove(Carrying, BOX, seed=1)
    LOOKING.clear()  # what is thrown away later reads nothing in another's proof
    assert not found.proved
    assert "tolist" in found.why


COINS = {
    "numpy": lambda: np.random.default_rng().random(),
    "numpy's older": lambda: np.random.RandomState().rand(),
    "Python": lambda: random.Random().random(),
    "the system": lambda: random.SystemRandom().random(),
    "secrets": lambda: secrets.randbelow(1000) / 1000,
    "a clock": lambda: time.time_ns() // 1000 % 1000 / 1000,
    "another clock": lambda: time.perf_counter() * 1e6 % 1,
    "a date": lambda: datetime.datetime.now().microsecond / 1e6,
}


@pytest.mark.parametrize("name", COINS)
def test_no_proof_is_given_to_who_has_coins_of_its_own(name):
    flip = COINS[name]
    found = prove(judging(lambda p, q, d: half(p, q, d) if flip() < 1e-9 else keep(p, q, d)), BOX, seed=1)
    assert not found.proved
    made = prove(lambda settings: judging(keep if flip() >= 1e-9 else half)(settings), BOX, seed=1)
    assert not made.proved or name == "a date"  # what a caller's function names is not looked at


def test_numbers_from_a_seed_are_no_coins():
    def build(settings):
        np.random.default_rng(1), random.Random(1)
        return judging(keep)(settings)

    found = prove(build, BOX, seed=1)
    assert found.proved, found.why
    assert isinstance(random.Random().random(), float)
    assert time.time() > 0


class Ordinary:
    """Has a lock, and uses functions of torch that are in Python, on laws and on other numbers."""

    name = "ordinary"

    def __init__(self, settings):
        self.inner, self.lock = judging(keep)(settings), threading.Lock()

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        law = model.laws(state.context, torch.zeros(len(state.length), 0, dtype=torch.int64))
        with self.lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.nn.functional.pad(torch.cat(torch.split(1 - law, 1, -1)), (0, 1))
            torch.einsum("ij,jk->ik", torch.ones(2, 2), torch.ones(2, 2)), state.length.unique()
        return self.inner.step(state, model, draws)


def test_ordinary_code_is_proved():
    found = prove(Ordinary, BOX, seed=1)
    assert found.proved, found.why


class Made:
    """Counts how often it was made; wrong from the 50th on."""

    name, made = "made", 0

    def __init__(self, settings):
        type(self).made += 1
        self.inner = judging(keep if self.made < 50 else half)(settings)

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        return self.inner.step(state, model, draws)


def test_no_proof_is_given_to_who_counts_how_often_it_was_made():
    found = prove(Made, BOX, seed=1)
    assert not found.proved
    assert "another each time that it is made" in found.why
    for _ in range(50):
        decoder = Made(Settings(1, draft_model=model(0.25)))
    assert enumerate_decoder(decoder, model(0.7)).tv(target_law(model(0.7))) > 0.05
