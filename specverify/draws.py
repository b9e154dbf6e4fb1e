"""Draws: the one source of randomness of every decoder.

A decoder never calls a random number generator. It asks a `Draws` object, and the same code is then sampled, enumerated
exactly, or replayed, according to which object it was given:

    Sampled     draws from a seeded generator, on any device
    Enumerated  goes on with one outcome of each draw, and keeps the others to be followed as well (`enumerated.py`)
    Recorded    wraps another and writes down, or replays, every outcome (`recorded.py`)

Every draw takes `where`, which says where the outcome is really used. Elsewhere the outcome is 0 and costs nothing: an
enumeration does not branch there. A *race* is the noise of the Gumbel trick (one exponential E_v per token; the winner
under a law p is argmin E_v / p_v), kept by the decoder and asked for its winner under several laws.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.draws_inverse import token_at
from specverify.draws_race import exponentials, first
from specverify.errors import ContractError
from specverify.seeds import derived_seed


@runtime_checkable
class Draws(Protocol):
    """What a decoder may ask for. `weights` are laws up to a factor: at least 0, with a positive finite sum."""

    def accept_run(
        self, probability: Float[Tensor, "batch w"], where: Bool[Tensor, "batch w"]
    ) -> Int[Tensor, " batch"]:
        """How many leading slots succeed. What is behind the first that fails, or is not in `where`, is not read."""

    def bernoulli(self, probability: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        """True with the given probability, independently."""

    def categorical(
        self, weights: Float[Tensor, "*shape vocab"], where: Bool[Tensor, "*shape"]
    ) -> Int[Tensor, "*shape"]:
        """A token drawn from each law, independently."""

    def race(
        self, batch: int, slots: int, vocab: int, where: Bool[Tensor, "batch slots"] | None = None
    ) -> Float[Tensor, "batch slots noise"]:
        """Fresh noise for `slots` races per row; elsewhere none. What it holds is the business of `winner` alone."""

    def winner(
        self,
        race: Float[Tensor, "batch slots noise"],
        weights: Float[Tensor, "batch slots vocab"],
        where: Bool[Tensor, "batch slots"],
    ) -> tuple[Int[Tensor, "batch slots"], Float[Tensor, "batch slots noise"]]:
        """Each race's winner under a law, and the race to keep for asking again."""

    def earliest(
        self,
        race: Float[Tensor, "batch slots noise"],
        weights: Float[Tensor, "batch vocab"],
        where: Bool[Tensor, "batch slots"],
    ) -> Int[Tensor, " batch"]:
        """Which token comes first in any of a row's races, under one law; these races are spent."""

    def uniform(self, like: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Uniform on [0, 1)."""

    def normal(self, like: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Standard normal."""


class Sampled:
    """Draws from a generator seeded by (seed, block): same seed, same draws, on the same kind of device.

    Coins have the precision of the laws that they are compared with: 24 bits up to float32, 53 for float64; races are
    always float64, so that rare tokens keep their chance. A coin of 0 never accepts a probability of 0.

    Attributes:
        fault: Bool[], whether a NaN or negative probability or weight, weights without a positive finite sum, or noise
            that is none were used. Kept on the device, so that drawing never waits; so is `highest`, of probabilities.
    """

    def __init__(self, seed: int, block: int = 0, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(derived_seed(seed, block))
        self.fault = torch.zeros((), dtype=torch.bool, device=self.device)
        self.highest = torch.zeros((), dtype=torch.float64, device=self.device)

    def check(self) -> None:
        """Raise ContractError if any draw so far was asked for with an impossible law."""
        # A ratio of two rounded laws may exceed 1 in its last digits only.
        if (highest := float(self.highest)) > 1 + 1e-5:
            raise ContractError(
                f"{highest:g} is no probability: accept_run takes min(1, p / q), bernoulli a number from 0 to 1"
            )
        if bool(self.fault):
            raise ContractError(
                "the decoder asked for a draw without noise, or with NaN, negative or all-zero probabilities; "
                "run it under the enumerator, which names the draw; drafts need q > 0, and models laws without NaN"
            )

    def accept_run(
        self, probability: Float[Tensor, "batch w"], where: Bool[Tensor, "batch w"]
    ) -> Int[Tensor, " batch"]:
        """See Draws."""
        used = probability.where(where, 0)
        run = (self.uniform(probability, where) < used).cumprod(-1)
        reached = torch.cat([torch.ones_like(run[:, :1]), run[:, :-1]], 1).bool()
        self._look(used.where(reached, 0))
        return run.sum(-1)

    def bernoulli(self, probability: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        """See Draws."""
        used = probability.where(where, 0)
        self._look(used)
        return self.uniform(probability, where) < used

    def _look(self, used: Float[Tensor, "*shape"]) -> None:
        """Note what is no probability."""
        if used.numel():
            lowest, highest = used.aminmax()  # NaN if any is
            self.fault |= ~(lowest >= 0)
            self.highest = self.highest.maximum(highest)

    def categorical(
        self, weights: Float[Tensor, "*shape vocab"], where: Bool[Tensor, "*shape"]
    ) -> Int[Tensor, "*shape"]:
        """See Draws. By the inverse distribution function: a weight of 0 is never chosen."""
        # Sums of half-precision weights would lose whole tokens.
        summed = weights.to(torch.promote_types(weights.dtype, torch.float32))
        token, total = token_at(summed, self.uniform(summed[..., 0], where), self.device.type == "cpu")
        self.fault |= (where & ~((weights.amin(-1) >= 0) & (total > 0) & (total < torch.inf))).any()
        return token.squeeze(-1).where(where, 0)

    def race(
        self, batch: int, slots: int, vocab: int, where: Bool[Tensor, "batch slots"] | None = None
    ) -> Float[Tensor, "batch slots noise"]:
        """See Draws. Noise is one standard exponential per token."""
        return exponentials(self.generator, (batch, slots, vocab), where)

    def winner(
        self,
        race: Float[Tensor, "batch slots noise"],
        weights: Float[Tensor, "batch slots vocab"],
        where: Bool[Tensor, "batch slots"],
    ) -> tuple[Int[Tensor, "batch slots"], Float[Tensor, "batch slots noise"]]:
        """See Draws."""
        earliest, token = first(race, weights)
        self.fault |= (where & ~((weights.amin(-1) >= 0) & (earliest > 0) & earliest.isfinite())).any()
        return token.where(where, 0), race

    def earliest(
        self,
        race: Float[Tensor, "batch slots noise"],
        weights: Float[Tensor, "batch vocab"],
        where: Bool[Tensor, "batch slots"],
    ) -> Int[Tensor, " batch"]:
        """See Draws."""
        together = race.masked_fill(~where[..., None], torch.inf).amin(1, keepdim=True)
        return self.winner(together, weights[:, None], where.any(1, keepdim=True))[0].squeeze(1)

    def uniform(self, like: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """See Draws. Never coarser than 24 bits, whatever the dtype of `like`."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        return torch.rand(like.shape, dtype=dtype, device=self.device, generator=self.generator)

    def normal(self, like: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """See Draws."""
        return torch.randn(like.shape, dtype=like.dtype, device=self.device, generator=self.generator)
