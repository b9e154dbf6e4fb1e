"""The same decoder, its rows in other company: what a row does must not depend on the rows beside it.

together   all worlds of one length in one batch, as the enumerator makes them
ragged     the same in reverse order, among rows of every other length and rows that are done
alone      one row at a time
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from specverify import tree
from specverify.claims import Claim
from specverify.decoders.protocol import Decoder, Info, State
from specverify.draws import Draws, Sampled
from specverify.evidence.budget import Budget
from specverify.evidence.enumerate import OnStep, enumerate_decoder
from specverify.evidence.relay import Relay
from specverify.evidence.sequences import ExactLaw
from specverify.model import Model
from specverify.noise import Noise

Arrangement = Literal["together", "ragged", "alone"]
ARRANGEMENTS: tuple[Arrangement, ...] = get_args(Arrangement)


def enumerate_arranged(
    decoder: Decoder,
    model: Model,
    arrangement: Arrangement = "together",
    budget: Budget | None = None,
    on_step: OnStep | None = None,
) -> ExactLaw:
    """As `enumerate_decoder`, with the rows arranged."""
    budget = budget or Budget()
    if arrangement == "alone":
        return enumerate_decoder(decoder, model, replace(budget, rows=1), on_step)
    return enumerate_decoder(Ragged(decoder) if arrangement == "ragged" else decoder, model, budget, on_step)


class Ragged:
    """A decoder whose every step runs among companions: sampled rows of every length, before and behind its own."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder, self.name, self.window = decoder, decoder.name, getattr(decoder, "window", 1)
        self.claim: Claim = decoder.claim
        self._company: State | None = None

    def init(self, model: Model, batch: int, draws: Draws) -> State:
        """See Decoder."""
        self._company = _company(self.decoder, model)
        return self.decoder.init(model, batch, draws)

    def step(self, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        assert self._company is not None  # init came first
        own, others = len(state.length), len(self._company.length)
        company = own + torch.arange(others, device=state.length.device)
        middle = torch.arange(own - 1, -1, -1, device=state.length.device)
        order = torch.cat([company[: others // 2], middle, company[others // 2 :]])
        back = order.argsort()
        sampled = _Companions(0, 1, model.device)

        def relay(kind: str, *arguments: Any) -> Any:
            if kind == "race":
                _, slots, vocab, where = arguments
                lent = (None, None) if where is None else where.index_select(0, back).split([own, others])
                theirs = sampled.race(others, slots, vocab, lent[1])
                ours = draws.race(own, slots, vocab, lent[0])
            else:
                parts = [part.index_select(0, back) for part in arguments]
                theirs = getattr(sampled, kind)(*(part[own:] for part in parts))
                ours = getattr(draws, kind)(*(part[:own] for part in parts))
            return tree.rows(tree.join([ours, theirs]), order)

        result = self.decoder.step(tree.rows(tree.join([state, self._company]), order), model, Relay(relay))
        return tree.rows(result, back[:own])


class _Companions(Sampled):
    """Draws whose races look like those that are enumerated, so that both may stand in one tensor."""

    def race(self, batch: int, slots: int, vocab: int, where: Tensor | None = None) -> Tensor:
        return super().race(batch, slots, vocab, where).as_subclass(Noise)

    def winner(self, race: Tensor, weights: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        token, kept = super().winner(tree.plain(race), weights, where)
        return token, kept.as_subclass(Noise)

    def earliest(self, race: Tensor, weights: Tensor, where: Tensor) -> Tensor:
        return super().earliest(tree.plain(race), weights, where)


def _company(decoder: Decoder, model: Model) -> State:
    """One row of every length that a few sampled runs went through, the longest of them done."""
    draws = _Companions(0, 0, model.device)
    state = decoder.init(model, 3, draws)
    seen = [state]
    while not bool(state.done.all()):
        state, _ = decoder.step(state, model, draws)
        seen.append(state)
    rows = tree.join(seen)
    first: dict[tuple[int, bool], int] = {}
    for row, key in enumerate(zip(rows.length.tolist(), rows.done.tolist(), strict=True)):
        first.setdefault(key, row)
    index: Tensor = torch.tensor(list(first.values()), device=rows.length.device)
    return tree.rows(rows, index)
