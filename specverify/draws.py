"""Draws: the one source of randomness of every decoder.

A decoder never calls a random number generator. It asks a `Draws` object, and the same code is then sampled, enumerated
exactly, or replayed, according to which object it was given:

    Sampled     draws from a seeded generator, on any device
    Enumerated  stops at the first draw whose outcome is not yet chosen, and hands out all outcomes with their chances
    Recorded    wraps another and writes down, or replays, every outcome

Every draw takes `where`, which says where the outcome is really used. Elsewhere the outcome is 0 and costs nothing: an
enumeration does not branch there. A *race* is the noise of the Gumbel trick (one exponential E_v per token; the winner
under a law p is argmin E_v / p_v), kept by the decoder and asked for its winner under several laws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.errors import ContractError, InputError

BLOCK = 16_384
"""Rows that share one derived seed. Work is cut into blocks of this size whoever runs them."""


@runtime_checkable
class Draws(Protocol):
    """What a decoder may ask for. `weights` are laws up to a factor: at least 0, with a positive finite sum."""

    def accept_run(
        self, probability: Float[Tensor, "batch w"], where: Bool[Tensor, "batch w"]
    ) -> Int[Tensor, " batch"]:
        """How many leading slots succeed before the first that fails, or that `where` excludes."""

    def bernoulli(self, probability: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        """True with the given probability, independently."""

    def categorical(
        self, weights: Float[Tensor, "*shape vocab"], where: Bool[Tensor, "*shape"]
    ) -> Int[Tensor, "*shape"]:
        """A token drawn from each law, independently."""

    def race(self, batch: int, slots: int, vocab: int) -> Float[Tensor, "batch slots noise"]:
        """Fresh noise for `slots` races per row. What it holds is the business of `winner` alone."""

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


def derived_seed(seed: int, *key: int) -> int:
    """A seed for one part of the work, independent of those of other parts (numpy's SeedSequence)."""
    if min(seed, *key, 0) < 0:
        raise InputError(f"seed {seed}, key {key}: a seed and the numbers of its parts are integers of at least 0")
    high, low = np.random.SeedSequence(seed, spawn_key=key).generate_state(2, np.uint32)
    return (int(high) << 32 | int(low)) & (2**63 - 1)


class Sampled:
    """Draws from a generator seeded by (seed, block): same seed, same draws, on the same kind of device.

    Coins have the precision of the laws that they are compared with: 24 bits up to float32, 53 for float64; races are
    always float64, so that rare tokens keep their chance. A coin of 0 never accepts a probability of 0.

    Attributes:
        fault: Bool[], whether a probability that is NaN or outside [0, 1], a negative or NaN weight, or weights without
            a positive finite sum were ever used. Kept on the device, so that drawing never waits; `check` reads it.
    """

    def __init__(self, seed: int, block: int = 0, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(derived_seed(seed, block))
        self.fault = torch.zeros((), dtype=torch.bool, device=self.device)

    def check(self) -> None:
        """Raise ContractError if any draw so far was asked for with an impossible law."""
        if bool(self.fault):
            raise ContractError(
                "the decoder asked for a draw with NaN, negative or all-zero probabilities; "
                "run it under the enumerator, which names the draw, and check that drafts have q > 0"
            )

    def accept_run(
        self, probability: Float[Tensor, "batch w"], where: Bool[Tensor, "batch w"]
    ) -> Int[Tensor, " batch"]:
        """See Draws."""
        return self.bernoulli(probability, where).cumprod(-1).sum(-1)

    def bernoulli(self, probability: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        """See Draws."""
        # A ratio of two rounded laws may exceed 1 in its last digits only.
        self.fault |= (where & ~((probability >= 0) & (probability <= 1 + 1e-5))).any()
        return (self.uniform(probability, where) < probability) & where

    def categorical(
        self, weights: Float[Tensor, "*shape vocab"], where: Bool[Tensor, "*shape"]
    ) -> Int[Tensor, "*shape"]:
        """See Draws. By the inverse distribution function: a weight of 0 is never chosen."""
        # Sums of half-precision weights would lose whole tokens.
        edges = weights.to(torch.promote_types(weights.dtype, torch.float32)).cumsum(-1)
        total = edges[..., -1]
        self.fault |= (where & ~((weights.amin(-1) >= 0) & (total > 0) & total.isfinite())).any()
        point = self.uniform(total, where) * total
        token = (edges[..., :-1] <= point[..., None]).sum(-1)
        return token.where(where, 0)

    def race(self, batch: int, slots: int, vocab: int) -> Float[Tensor, "batch slots noise"]:
        """See Draws. Noise is one standard exponential per token."""
        empty = torch.empty(batch, slots, vocab, dtype=torch.float64, device=self.device)
        return empty.exponential_(generator=self.generator)

    def winner(
        self,
        race: Float[Tensor, "batch slots noise"],
        weights: Float[Tensor, "batch slots vocab"],
        where: Bool[Tensor, "batch slots"],
    ) -> tuple[Int[Tensor, "batch slots"], Float[Tensor, "batch slots noise"]]:
        """See Draws."""
        arrival = torch.where(weights > 0, race / weights, torch.inf)
        earliest, token = arrival.min(-1)
        self.fault |= (where & ~((weights.amin(-1) >= 0) & earliest.isfinite())).any()
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


class Fork(Exception):
    """Raised by Enumerated at the first draw whose outcome is not chosen yet. Not an error, hence the name.

    Args:
        kind: the draw's name.
        probability: Float[batch, slots, options], each slot's outcomes, independent across slots; zeros are impossible.
        finish: turns the chosen options, with the rows that they belong to, into what the draw returns.
    """

    def __init__(self, kind: str, probability: Tensor, finish: Any) -> None:
        super().__init__("a draw has several outcomes")
        self.kind, self.probability, self.finish = kind, probability, finish

    def outcomes(self) -> Float[Tensor, " batch"]:
        """How many outcomes each row has; as floats, since 64 coins have more than an integer holds."""
        return (self.probability > 0).sum(-1).double().prod(-1)

    def expand(self, index: Int[Tensor, " some"]) -> tuple[Int[Tensor, " out"], Any, Float[Tensor, " out"]]:
        """All outcomes of some rows: the row that each belongs to, the outcome, its probability."""
        parent = index
        weight = torch.ones(len(index), dtype=torch.float64, device=index.device)
        chosen: list[Tensor] = []
        for slot in range(self.probability.shape[1]):
            table = self.probability[parent, slot]
            row, option = table.nonzero(as_tuple=True)
            weight = weight[row] * table[row, option]
            parent = parent[row]
            chosen = [earlier[row] for earlier in chosen]
            chosen.append(option)
        options = torch.stack(chosen, 1) if chosen else index.new_zeros(len(index), 0)
        return parent, self.finish(parent, options), weight


@dataclass(frozen=True)
class Chosen:
    """The outcome of one draw, for every row."""

    kind: str
    outcome: Any


class Enumerated:
    """Replays the outcomes chosen so far, then raises `Fork` with all outcomes of the next draw.

    Every row of the batch is a different world: the enumerator splits rows at each fork and calls the decoder again
    with one more outcome chosen. Draws with finitely many outcomes are exact. A race is exact for two tokens: token 0
    wins if and only if E_0 / (E_0 + E_1), which is uniform on [0, 1], is below p_0, so the noise is the interval that
    is left.

    Raises:
        ContractError: for laws that are no laws, for `uniform` and `normal`, for a race over three tokens or more, and
            when the decoder's draws are not the same ones on replay.
    """

    def __init__(self, batch: int, chosen: Sequence[Chosen] = (), device: torch.device | str = "cpu") -> None:
        self.batch, self.chosen, self.device = batch, tuple(chosen), device
        self._next = 0

    def accept_run(
        self, probability: Float[Tensor, "batch w"], where: Bool[Tensor, "batch w"]
    ) -> Int[Tensor, " batch"]:
        """See Draws. Outcomes are the w + 1 lengths, not the 2^w coins."""
        if (replayed := self._replay("accept_run")) is not None:
            return replayed  # type: ignore[no-any-return]
        coin = self._probabilities(probability, where, "accept_run").double()
        survive = torch.cat([torch.ones_like(coin[:, :1]), coin.cumprod(-1)], 1)
        stop = torch.cat([1 - coin, torch.ones_like(coin[:, :1])], 1)
        raise Fork("accept_run", (survive * stop)[:, None, :], lambda parent, options: options[:, 0])

    def bernoulli(self, probability: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        """See Draws."""
        if (replayed := self._replay("bernoulli")) is not None:
            return replayed  # type: ignore[no-any-return]
        coin = self._probabilities(probability, where, "bernoulli").double()
        shape = coin.shape[1:]
        flat = coin.reshape(coin.shape[0], -1)
        raise Fork(
            "bernoulli",
            torch.stack([1 - flat, flat], -1),
            lambda parent, options: options.reshape(-1, *shape).bool(),
        )

    def categorical(
        self, weights: Float[Tensor, "*shape vocab"], where: Bool[Tensor, "*shape"]
    ) -> Int[Tensor, "*shape"]:
        """See Draws."""
        if (replayed := self._replay("categorical")) is not None:
            return replayed  # type: ignore[no-any-return]
        law = self._law(weights, where, "categorical")
        shape = law.shape[1:-1]
        raise Fork(
            "categorical",
            law.reshape(law.shape[0], -1, law.shape[-1]),
            lambda parent, options: options.reshape(-1, *shape),
        )

    def race(self, batch: int, slots: int, vocab: int) -> Float[Tensor, "batch slots noise"]:
        """See Draws. Noise is the interval [low, high] that the uniform E_0 / (E_0 + E_1) is known to lie in."""
        if vocab != 2:
            raise ContractError(
                f"a race over {vocab} tokens cannot be enumerated; use a model with two tokens, or test statistically"
            )
        return torch.tensor([0.0, 1.0], dtype=torch.float64, device=self.device).expand(batch, slots, 2).clone()

    def winner(
        self,
        race: Float[Tensor, "batch slots noise"],
        weights: Float[Tensor, "batch slots vocab"],
        where: Bool[Tensor, "batch slots"],
    ) -> tuple[Int[Tensor, "batch slots"], Float[Tensor, "batch slots noise"]]:
        """See Draws."""
        if (replayed := self._replay("winner")) is not None:
            return replayed  # type: ignore[no-any-return]
        cut = self._law(weights, where, "winner")[..., 0]
        low, high = race.unbind(-1)
        inside = cut.clamp(min=low, max=high)
        zero_wins = ((inside - low) / (high - low)).where(where, 1.0)

        raise Fork("winner", torch.stack([zero_wins, 1 - zero_wins], -1), partial(_narrowed, race, inside, where))

    def earliest(
        self,
        race: Float[Tensor, "batch slots noise"],
        weights: Float[Tensor, "batch vocab"],
        where: Bool[Tensor, "batch slots"],
    ) -> Int[Tensor, " batch"]:
        """See Draws. Races that were already looked at tell less than all of their noise: see `_chance_of_zero`."""
        if (replayed := self._replay("earliest")) is not None:
            return replayed  # type: ignore[no-any-return]
        zero = _chance_of_zero(race, self._law(weights, where.any(1), "earliest")[:, 0], where)
        raise Fork("earliest", torch.stack([zero, 1 - zero], -1)[:, None], lambda parent, options: options[:, 0])

    def uniform(self, like: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Not enumerable."""
        raise ContractError(
            "a uniform draw has no finite outcomes; ask for the decision (bernoulli, categorical, accept_run)"
        )

    def normal(self, like: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Not enumerable."""
        raise ContractError(
            "a normal draw has no finite outcomes; decoders of continuous tokens are tested statistically"
        )

    def finish(self) -> None:
        """Raise ContractError if the decoder did not ask again for all that it was given before."""
        if self._next < len(self.chosen):
            raise ContractError(
                f"on replay the decoder asked for {self._next} draws where it asked for {len(self.chosen)} before: its "
                "draws depend on something else than its state; make `step` a function of its arguments"
            )

    def _replay(self, kind: str) -> Any:
        if self._next == len(self.chosen):
            return None
        chosen = self.chosen[self._next]
        if chosen.kind != kind:
            raise ContractError(
                f"on replay the decoder asked for {kind} where it asked for {chosen.kind} before: its draws depend on "
                "something else than its state; enumerate it with rows=1, or make `step` a function of its arguments"
            )
        self._next += 1
        return chosen.outcome

    def _probabilities(self, probability: Tensor, where: Tensor, kind: str) -> Tensor:
        bad = where & ~((probability >= 0) & (probability <= 1 + 1e-9))
        if bool(bad.any()):
            raise ContractError(
                f"{kind} was asked with probability {float(probability[bad][0])}; a draft with q = 0 gives NaN here"
            )
        return probability.where(where, 0.0).clamp(max=1.0)

    def _law(self, weights: Tensor, where: Tensor, kind: str) -> Tensor:
        weights = weights.double()  # before normalising, so that laws of any precision sum to 1
        total = weights.sum(-1)
        bad = where & ~((weights >= 0).all(-1) & (total > 0) & total.isfinite())
        if bool(bad.any()):
            raise ContractError(f"{kind} was asked with the weights {weights[bad][0].tolist()}, which are no law")
        first = torch.zeros_like(weights)
        first[..., 0] = 1
        return (weights / total[..., None]).where(where[..., None], first)


def _narrowed(
    race: Tensor, cut: Tensor, where: Tensor, parent: Tensor, winner: Tensor
) -> tuple[Int[Tensor, "out slots"], Float[Tensor, "out slots 2"]]:
    """The winners, and the side of the cut that each leaves its race with."""
    left, edge, zero = race[parent], cut[parent], winner == 0
    split = torch.stack([left[..., 0].where(zero, edge), edge.where(zero, left[..., 1])], -1)
    return winner, split.where(where[parent][..., None], left)


def _chance_of_zero(
    race: Float[Tensor, "batch slots 2"], p: Float[Tensor, " batch"], where: Bool[Tensor, "batch slots"]
) -> Float[Tensor, " batch"]:
    """The chance that token 0 comes first in any of several races, each known by the interval [a, b] of its noise.

    Under the law (p, 1 - p) one race brings token 0 at time t with density p (exp(-p t / b') - exp(-p t / a')), where
    a' = min(a, p) and b' = min(b, p), and token 1 likewise, with 1 - p, 1 - a and 1 - b in place of p, b and a. So the
    chance that it brings nothing before t is a sum of four exponentials c exp(-r t), and a product of such sums is
    integrated term by term.
    """
    low, high = race.unbind(-1)
    cut = p[:, None]
    size = torch.stack([high.minimum(cut), -low.minimum(cut), 1 - low.maximum(cut), high.maximum(cut) - 1], -1)
    rate = torch.stack([cut, cut, 1 - cut, 1 - cut], -1) / size.abs().where(size != 0, 1.0)
    size = size.where(where[..., None], torch.tensor([1.0, 0, 0, 0], dtype=size.dtype, device=size.device))
    rate = rate.where(where[..., None], 0.0)
    product, total, zero = torch.ones_like(cut), torch.zeros_like(cut), torch.zeros_like(cut)
    of_zero = torch.tensor([1.0, 1, 0, 0], dtype=size.dtype, device=size.device)
    for slot in range(race.shape[1]):
        product = (product[..., None] * size[:, slot, None]).flatten(1)
        total = (total[..., None] + rate[:, slot, None]).flatten(1)
        zero = (zero[..., None] + (rate[:, slot] * of_zero)[:, None]).flatten(1)
    chance = (product * zero / total.where(total > 0, 1.0)).sum(1) / product.sum(1)
    return chance.clamp(0, 1).where(where.any(1), 1.0)


class Recorded:
    """Writes down every outcome of another Draws, or replays such a record: for debugging one run.

    Args:
        inner: where outcomes come from while recording; None to replay `outcomes`.
        outcomes: (kind, outcome) pairs of an earlier run.
    """

    def __init__(self, inner: Draws | None = None, outcomes: Sequence[tuple[str, Any]] = ()) -> None:
        self.inner, self.outcomes = inner, list(outcomes)
        self._next = 0

    def check(self) -> None:
        """See Sampled; a replay has nothing to check."""
        if isinstance(self.inner, Sampled):
            self.inner.check()

    def __getattr__(self, kind: str) -> Any:
        if kind not in ("accept_run", "bernoulli", "categorical", "race", "winner", "earliest", "uniform", "normal"):
            raise AttributeError(kind)

        return partial(self._draw, kind)

    def _draw(self, kind: str, *arguments: Any, **named: Any) -> Any:
        if self.inner is not None:
            outcome = getattr(self.inner, kind)(*arguments, **named)
            self.outcomes.append((kind, outcome))
            return outcome
        if self._next == len(self.outcomes):
            raise ContractError(f"the record ends after {self._next} draws, but the decoder asked for another ({kind})")
        recorded, outcome = self.outcomes[self._next]
        if recorded != kind:
            raise ContractError(f"draw {self._next} of the record is {recorded}, but the decoder asked for {kind}")
        self._next += 1
        return outcome
