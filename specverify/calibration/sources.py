"""What is sampled: decoders on toys, right or wrong by an exactly known amount, run for real or as their exact law.

For a decoder whose law can be enumerated, counts drawn from that law have the same distribution as counts of its
sequences, and cost nothing: rows that do so say "from the exact law of".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import optimize
from torch import Tensor

import toymodels
from specverify import defects
from specverify.decoders import Decoder, registry, sample
from specverify.errors import InputError
from specverify.evidence.distance import tv
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.result import Vector
from specverify.evidence.sequences import sequence_index, target_law
from specverify.model import Model

BATCH = 16_384


@dataclass(frozen=True)
class Source:
    """A decoder on a toy.

    Attributes:
        decoder: a name of `decoders.registry`, or of `defects`.
        toy: the model.
        window: draft tokens per forward pass.
        draft: the kind of draft model; Jacobi drafts without one.
        strength: of the flaw, for a defect that has one.
    """

    decoder: str
    toy: str
    window: int = 2
    draft: str | None = None
    strength: float | None = None

    @property
    def name(self) -> str:
        """For rows; without the strength, which the distance stands for."""
        return f"{self.decoder} on {self.toy}"

    def model(self) -> Model:
        """The target."""
        return toymodels.toy(self.toy)

    def build(self) -> Decoder:
        """The decoder."""
        model = self.model()
        settings = registry.Settings(
            window=self.window, draft_model=toymodels.draft(self.draft, model) if self.draft else None
        )
        if self.decoder in registry.names():
            return registry.build(self.decoder, settings)
        return defects.get(self.decoder).build(settings, self.strength)

    def parts(self, n: int, trials: int, seed: int) -> Iterator[Int[Tensor, "some n length"]]:
        """Sequences of all repetitions, decoded for real: several at once where they are small."""
        model, decoder = self.model(), self.build()
        together = max(1, BATCH // n)
        for first in range(0, trials, together):
            some = min(together, trials - first)
            block = first // together * -(-together * n // BATCH)
            yield sample(decoder, model, some * n, seed, BATCH, block).tokens.reshape(some, n, -1)

    def tokens(self, n: int, trials: int, seed: int) -> Int[Tensor, "trials n length"]:
        """All of them."""
        return torch.cat(list(self.parts(n, trials, seed)))

    def indices(self, n: int, trials: int, seed: int) -> Iterator[Int[np.ndarray, " n"]]:
        """For each repetition its sequences in the order in which they came, each as its place in the law."""
        for part in self.parts(n, trials, seed):
            yield from sequence_index(part.flatten(0, 1), self.model().vocab).reshape(len(part), n).numpy()

    def counts(self, n: int, trials: int, seed: int) -> Iterator[Int[np.ndarray, " sequences"]]:
        """For each repetition how often each sequence came."""
        model = self.model()
        for index in self.indices(n, trials, seed):
            yield np.bincount(index, minlength=model.vocab**model.length)


@lru_cache(maxsize=64)
def exact(source: Source) -> Vector:
    """The exact law of the decoder's sequences, by enumeration."""
    return enumerate_decoder(source.build(), source.model()).law.numpy()


@lru_cache(maxsize=64)
def target(toy: str) -> Vector:
    """The toy's own law."""
    return target_law(toymodels.toy(toy)).numpy()


def distance(source: Source) -> float:
    """Exact total variation of the decoder's law from the target's."""
    return tv(exact(source), target(source.toy))


def tuned(source: Source, wanted: float, measure: Callable[[Source], float] = distance, side: float = 0.05) -> Source:
    """The source with the strength at which its flaw has the size that is wanted, or up to a millionth more.

    Args:
        source: its decoder is a defect with a strength.
        wanted: the size.
        measure: the size of the flaw, 0 where it is harmless and growing away from that.
        side: the strength of the most that is tried.

    Raises:
        InputError: if the flaw does not get as large.
    """
    harmless = defects.get(source.decoder).harmless
    if harmless is None:
        raise InputError(f"defect {source.decoder!r} has no strength to tune; choose one that has")

    def excess(strength: float) -> float:
        return measure(replace(source, strength=strength)) - wanted * (1 + 5e-7)

    if excess(side) < 0:
        raise InputError(f"{source.name} is wrong by {excess(side) + wanted:.3g} at most, not by {wanted:.3g}")
    root = float(optimize.brentq(excess, harmless, side, xtol=1e-13, rtol=1e-13))
    found = replace(source, strength=root)
    size = measure(found)
    if not wanted <= size <= wanted * (1 + 1e-6):
        raise InputError(f"{source.name} jumps across {wanted:.6g} to {size:.6g}; choose another toy")
    return found


def laws(toy: str, tokens: Int[Tensor, "rows length"]) -> Float[Tensor, "rows length vocab"]:
    """The target's laws along sequences."""
    model = toymodels.toy(toy)
    with torch.no_grad():
        return torch.cat([model.laws(model.start(len(part)), part[:, :-1]) for part in tokens.split(BATCH)])


def every_sequence(toy: str) -> Int[Tensor, "sequences length"]:
    """All sequences of a toy, in the order of its law."""
    model = toymodels.toy(toy)
    return torch.cartesian_prod(*[torch.arange(model.vocab)] * model.length).reshape(-1, model.length)
