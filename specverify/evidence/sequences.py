"""Laws over all sequences of a model, and the exact law that every lossless decoder has."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify import tree
from specverify.errors import BudgetError, InputError
from specverify.model import Model
from specverify.rules.token import total_variation

SEQUENCES = 2**20
"""Most sequences (vocab ** length) that a law is tabulated for."""


@dataclass(frozen=True)
class ExactLaw:
    """What is known exactly of a decoder on a model.

    Attributes:
        law: probability of every sequence; sequence x has index sum_i x_i vocab^(length - 1 - i).
        passes: expected forward passes of the target (NFE) for one sequence.
        verified, accepted: expected draft tokens judged and kept.
        draft_passes: expected forward passes of the draft model.
        branches: expected tokens emitted by each Branch.
        states: distinct states that were expanded.
        worlds: outcomes that were followed (rows that went through a whole step).
    """

    law: Float[Tensor, " sequences"]
    passes: float
    verified: float
    accepted: float
    draft_passes: float
    branches: dict[str, float]
    states: int
    worlds: int

    @property
    def acceptance_rate(self) -> float:
        """Accepted drafts over verified drafts; NaN if none was verified."""
        return self.accepted / self.verified if self.verified > 0 else float("nan")

    def tv(self, other: Float[Tensor, " sequences"]) -> float:
        """Total variation from another law over the same sequences."""
        return float(total_variation(self.law, other.to(self.law)))


def sequence_index(tokens: Int[Tensor, "batch length"], vocab: int) -> Int[Tensor, " batch"]:
    """Each sequence's index in an `ExactLaw`."""
    index = torch.zeros_like(tokens[:, 0])
    for position in range(tokens.shape[1]):
        index = index * vocab + tokens[:, position]
    return index


@torch.no_grad()
def target_law(model: Model) -> Float[Tensor, " sequences"]:
    """The exact law of autoregressive decoding: the product of the model's laws along every sequence.

    Raises:
        BudgetError: if vocab ** length exceeds `SEQUENCES`.
    """
    check_size(model)
    law = torch.ones(1, dtype=torch.float64, device=model.device)
    ended = torch.zeros(1, dtype=torch.bool, device=model.device)
    context = model.start(1)
    empty = torch.zeros(1, 0, dtype=torch.int64, device=model.device)
    every = torch.arange(model.vocab, device=model.device)
    for position in range(model.length):
        step = model.laws(context, empty)[:, 0].double()
        step = step / step.sum(-1, keepdim=True)
        if model.eos is not None:
            step = torch.where(ended[:, None], (every == model.eos).double(), step)
            ended = (ended[:, None] | (every == model.eos)).reshape(-1)
        law = (law[:, None] * step).reshape(-1)
        if position + 1 < model.length:
            parents = torch.arange(len(law) // model.vocab, device=model.device).repeat_interleave(model.vocab)
            token = every.repeat(len(parents) // model.vocab)[:, None]
            context = model.advance(tree.rows(context, parents), token, torch.ones_like(parents))
            empty = token[:, :0]
    return law


def check_size(model: Model) -> None:
    """Raise unless all sequences of a model can be tabulated; BudgetError says which size would fit."""
    if model.vocab < 1 or model.length < 1:
        raise InputError(
            f"model {model.name!r} has vocabulary {model.vocab} and length {model.length}; both are at least 1"
        )
    if model.vocab**model.length > SEQUENCES:
        fits = max(n for n in range(model.length) if model.vocab**n <= SEQUENCES)
        advice = (
            f"vocabulary {model.vocab} a length of at most {fits}" if fits else f"length 1 a vocabulary of {SEQUENCES}"
        )
        raise BudgetError(
            f"model {model.name!r} has {model.vocab}^{model.length} sequences, too many to tabulate; with {advice} fits"
        )
