"""Models whose law follows from a state that every token updates: the form that all toy families are written in.

A family gives a `Recursion` (where the state starts, how a token changes it, the integer weights that it implies) and
`StateModel` makes a batched model of it, whose context carries the state. The catalogue tabulates small families, but
for those that exist because histories matter (counts, windows, recurrent states): their contexts keep their own state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from toymodels.hashing import branches, fold, high_bits


@dataclass(frozen=True)
class Recursion:
    """A law as a recursion over integer states.

    Attributes:
        initial: the state of an empty sequence, `width` integers.
        update: (state Int[batch, width], token Int[batch]) -> the state after that token.
        weights: (position Int[batch], state Int[batch, width]) -> Int[batch, vocab], at least 0 and not all 0; the law
            is proportional to them.
        eos: the id that ends a sequence early, or None.
        clusters: the partition of the vocabulary that the family defines, if it does.
        embedding: a place for each token, Float[vocab, dim], if the family gives one.
    """

    initial: tuple[int, ...]
    update: Callable[[Tensor, Tensor], Tensor]
    weights: Callable[[Tensor, Tensor], Tensor]
    eos: int | None = None
    clusters: tuple[tuple[int, ...], ...] = ()
    embedding: Tensor | None = None


def over_prefixes(seed: int, weights: Callable[[Tensor, Tensor], Tensor], *, eos: int | None = None) -> Recursion:
    """The recursion whose state is the hash of the whole prefix; `weights` takes (position, hash), both Int[batch]."""
    return Recursion(
        initial=(seed,),
        update=lambda state, token: fold(state, token[:, None]),
        weights=lambda position, state: weights(position, state[:, 0]),
        eos=eos,
    )


def skewed(hashes: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
    """Weights of 1 + digit^3, digit in 0..7: positive, and far apart (1 to 344) from one context to the next."""
    return 1 + high_bits(hashes, 3) ** 3


def favourite(prefix: Int[Tensor, "*any"], vocab: int) -> Int[Tensor, "*any"]:
    """A token for every prefix hash, from the branch that no token takes."""
    return high_bits(branches(prefix, vocab + 1)[..., vocab], 31) % vocab


def near_clusters(clusters: tuple[tuple[int, ...], ...]) -> Float[Tensor, "vocab 2"]:
    """Places for tokens: cluster c around (4 c^2, 0), its members one quarter apart along the other axis.

    Inside a cluster of two or three, squared distances are at most 1/4; between clusters they are at least 16.
    """
    place = torch.zeros(sum(map(len, clusters)), 2, dtype=torch.float64)
    for number, cluster in enumerate(clusters):
        for copy, token in enumerate(cluster):
            place[token] = torch.tensor([4.0 * number**2, copy / 4])
    return place


def shifted(state: Int[Tensor, "batch width"], token: Int[Tensor, " batch"]) -> Int[Tensor, "batch width"]:
    """The last `width` tokens, oldest first, after one more."""
    return torch.cat([state[:, 1:], token[:, None]], dim=1)


@dataclass(frozen=True)
class Memory:
    """The context of a `StateModel`: tokens so far, and the state that they left."""

    position: Int[Tensor, " batch"]
    state: Int[Tensor, "batch width"]


class StateModel:
    """The model of a `Recursion`. Past the end of the sequence the law is uniform."""

    def __init__(
        self, name: str, vocab: int, length: int, recursion: Recursion, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.name, self.vocab, self.length, self.recursion = name, vocab, length, recursion
        self.eos, self.clusters = recursion.eos, recursion.clusters
        self.embedding = None if recursion.embedding is None else recursion.embedding.to(device, dtype)
        self.dtype, self.device = dtype, device

    def start(self, batch: int) -> Memory:
        """The context of `batch` empty sequences."""
        initial = torch.tensor(self.recursion.initial, dtype=torch.int64, device=self.device)
        return Memory(torch.zeros(batch, dtype=torch.int64, device=self.device), initial.repeat(batch, 1))

    def laws(self, context: Memory, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """One forward pass: the state is run through the draft, then all laws are made at once."""
        batch, window = draft.shape
        states = [context.state]
        for token in draft.unbind(1):
            states.append(self.recursion.update(states[-1], token))
        position = (context.position[:, None] + torch.arange(window + 1, device=self.device)).reshape(-1)
        weights = self.recursion.weights(position, torch.stack(states, 1).flatten(0, 1))
        weights = torch.where(position[:, None] < self.length, weights, 1)
        # Rounded once: a ratio of integers in double precision, then the nearest value of the wanted type.
        law = (weights.double() / weights.sum(-1, keepdim=True)).to(self.dtype)
        return law.view(batch, window + 1, self.vocab)

    def advance(self, context: Memory, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Memory:
        """The context after the first `count` tokens of each row; later ones leave no trace in the state."""
        state = context.state
        for k, token in enumerate(tokens.unbind(1)):
            state = torch.where((count > k)[:, None], self.recursion.update(state, token), state)
        return Memory(context.position + count, state)
