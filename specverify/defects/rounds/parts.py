"""What several of the known-wrong kernels are made of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from specverify.rules.token import accept_probability, residual
from specverify.subjects.rounds.kernel import Kernel, Outcome, Round
from specverify.subjects.rounds.reference import Parts, Scene, inverse, verify


def ratio(scene: Scene) -> Float[Tensor, "rows gamma"]:
    """The token rule: min(1, p / q) of each draft."""
    return accept_probability(scene.p, scene.q, scene.draft)


def favourite(scene: Scene) -> Float[Tensor, "rows gamma vocab"]:
    """At each slot, all mass on the token that p favours."""
    return one_hot(scene.p.argmax(-1), scene.p.shape[-1]).to(scene.p.dtype)


def tossed(name: str, toss: Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]) -> Kernel:
    """The reference with other coins: toss(rows, gamma, generator) -> coins, pick."""

    def verify_round(given: Round, generator: torch.Generator) -> Outcome:
        rows, gamma = given.draft.shape
        return verify(Parts(), given, *toss(rows, gamma, generator))

    return Kernel(name, verify_round)


def two_candidates(renormalised: bool) -> Callable[[Round, torch.Generator], Outcome]:
    """A rejected draft has a second candidate, drawn from q without it, that is tested against the residual."""

    def verify_round(given: Round, generator: torch.Generator) -> Outcome:
        second, coin, coins = (torch.rand(given.draft.shape, generator=generator) for _ in range(3))

        def recover(scene: Scene) -> Tensor:
            left = residual(scene.p, scene.q)
            without = scene.q.scatter(-1, scene.draft[..., None], 0.0)
            mass = without.sum(-1, keepdim=True)
            other = torch.where(mass > 0, without / mass, scene.p)
            size = scene.p.shape[-1]
            token = inverse(other.reshape(-1, size), second.flatten()).view_as(scene.draft)
            tested = other if renormalised else torch.where(mass > 0, scene.q, other)
            passes = coin < accept_probability(left, tested, token)
            chosen = torch.where(passes[..., None], one_hot(token, size).to(left.dtype), residual(left, tested))
            return torch.where(mass > 0, chosen, left)

        return verify(Parts(recover=recover), given, coins, torch.rand(len(coins), generator=generator))

    return verify_round
