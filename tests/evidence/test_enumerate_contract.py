"""Decoders that break the protocol are found by the enumeration."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from specverify.claims import Lossless
from specverify.decoders import Autoregressive, Info, State, begin, commit
from specverify.draws import Draws
from specverify.errors import ContractError
from specverify.evidence.budget import Budget
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import target_law
from specverify.model import Model
from tests.evidence.test_enumerate import EXACT, shortened
from toymodels import toy

# Decoders that break the protocol.


@dataclass(frozen=True)
class Odd:
    """Plain decoding with an oddity: which law a token is drawn from, and how many tokens are committed."""

    oddity: str
    claim: Lossless = Lossless()  # noqa: RUF009
    name: str = "odd"

    def init(self, model: Model, batch: int, draws: Draws) -> State:
        return begin(model, batch, torch.zeros(batch, 1))

    def step(self, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        active = ~state.done[:, None]
        laws = model.laws(state.context, state.tokens[:, :0])
        if self.oddity == "other rows":
            laws = laws.mean(0, keepdim=True).expand_as(laws)
        if self.oddity == "python state":
            calls.append(None)
            if len(calls) % 2:
                draws.bernoulli(torch.full_like(active, 0.5, dtype=torch.float64), active)
        if self.oddity == "once":
            calls.append(None)
            if len(calls) == 1:
                return one_token(state, model, draws.categorical(laws, active), active)
            return one_token(state, model, laws.argmax(-1), active)
        if self.oddity == "no law":
            laws = laws * torch.nan
        return one_token(state, model, draws.categorical(laws, active), active & (self.oddity != "no progress"))


def one_token(state: State, model: Model, token: Tensor, active: Tensor) -> tuple[State, Info]:
    after, count = commit(state, model, token, active[:, 0].long())
    none = count * 0
    return after, Info(count, none, none, count, count[:, None], none)


calls: list[None] = []


def test_a_decoder_whose_rows_mix_is_found_by_running_every_world_alone() -> None:
    model = shortened("dense-3x6", 3)
    together = enumerate_decoder(Odd("other rows"), model)
    alone = enumerate_decoder(Odd("other rows"), model, Budget(rows=1))
    assert alone.tv(target_law(model)) <= EXACT
    assert alone.tv(together.law) > 0.1


def test_a_decoder_that_draws_by_hidden_state_is_reported() -> None:
    calls.clear()
    with pytest.raises(ContractError, match=r"on replay the decoder asked for .* where it asked for .* before"):
        enumerate_decoder(Odd("python state"), shortened("dense-3x6", 3))


def test_a_decoder_that_draws_less_when_asked_again_is_reported() -> None:
    calls.clear()
    with pytest.raises(ContractError, match="on replay the decoder asked for 0 draws where it asked for 1 before"):
        enumerate_decoder(Odd("once"), shortened("dense-3x6", 3))


def test_a_decoder_that_makes_no_progress_is_reported() -> None:
    with pytest.raises(ContractError, match=r"decoder 'odd' committed nothing after \[0, 0, 0\] at length 0"):
        enumerate_decoder(Odd("no progress"), shortened("dense-3x6", 3))


def test_a_decoder_that_draws_from_no_law_is_reported() -> None:
    with pytest.raises(ContractError, match=r"categorical was asked with the weights \[nan, nan, nan\]"):
        enumerate_decoder(Odd("no law"), shortened("dense-3x6", 3))


def test_races_over_three_tokens_are_reported() -> None:
    with pytest.raises(ContractError, match="a race over 3 tokens cannot be enumerated"):
        enumerate_decoder(Autoregressive(shared_noise=True), toy("sparse-3x5"))
