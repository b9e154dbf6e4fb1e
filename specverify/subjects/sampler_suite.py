"""The toys that black boxes are judged on: a target law and a draft model each, chosen so that what goes wrong shows.

standard()           for samplers of some ten thousand sequences a second, such as a batched decoder on toys
small()              for those of a hundred, such as `generate` of an engine at batch 1
clustered(partition) for a claim about clusters of tokens
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

import toymodels
from specverify.claims import Claim, ClusterLossless, Relaxed
from specverify.errors import InputError
from specverify.model import Context, Model
from specverify.processors import Processed, parse_processors
from toymodels import tables


@dataclass(frozen=True)
class Case:
    """What one series of calls is given.

    Attributes:
        target: the model whose law the sequences must have.
        draft: a draft model over the same tokens, which the sampler may ignore.
    """

    target: Model
    draft: Model

    def __post_init__(self) -> None:
        for what in ("vocab", "length"):
            if getattr(self.target, what) != getattr(self.draft, what):
                raise InputError(
                    f"the draft model {self.draft.name!r} has {what} {getattr(self.draft, what)}, the target "
                    f"{self.target.name!r} {getattr(self.target, what)}; they must cover the same sequences"
                )

    @property
    def name(self) -> str:
        """The target's name, and the draft's kind."""
        return f"{self.target.name} ({self.draft.name.split(':')[0]} draft)"


class Shortened:
    """A model cut to its first `length` positions, so that fewer sequences are enough to know its law."""

    def __init__(self, inner: Model, length: int) -> None:
        if not 1 <= length <= inner.length:
            raise InputError(f"cannot cut {inner.name!r} to {length} positions; it has {inner.length}")
        self.inner, self.length = inner, length
        self.name, self.vocab, self.eos = f"{inner.name}[:{length}]", inner.vocab, inner.eos
        self.dtype, self.device = inner.dtype, inner.device

    def start(self, batch: int) -> Context:
        """The inner model's."""
        return self.inner.start(batch)

    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """The inner model's."""
        return self.inner.laws(context, draft)

    def advance(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """The inner model's."""
        return self.inner.advance(context, tokens, count)


# toy, processors, kind of draft model, positions
_STANDARD = (
    ("hash-16x24", "", "perturbed", 24),  # rows too long to repeat by chance, sixteen tokens
    ("sparse-3x5", "", "independent", 5),  # zeros; drafts that p forbids
    ("ties-3x5", "top_k=1", "perturbed", 5),  # greedy
    ("skew-3x5", "temperature=1.5,top_k=2", "perturbed", 5),  # processors; no two tokens tie
    ("switch-3x6", "", "independent", 6),  # a mask that a token flips
    ("eos-3x6", "", "perturbed", 6),  # rows that end at different lengths
    ("raster-4x6", "", "independent", 6),  # forced tokens
    ("zero-3x5", "", "perturbed", 5),  # token 0 is the most probable
    ("penalty-3x6", "", "perturbed", 5),  # counts
    ("window-3x6", "", "perturbed", 5),  # a sliding window
    ("recurrent-3x6", "", "perturbed", 5),  # a state
    ("dense-8x3", "", "perturbed", 3),  # residuals over many tokens
)
_SMALL = (
    ("sparse-3x5", "", "independent", 4),
    ("eos-3x6", "", "perturbed", 4),
    ("skew-3x5", "temperature=1.5,top_k=2", "perturbed", 4),
    ("recurrent-3x6", "", "perturbed", 4),
    ("penalty-3x6", "", "perturbed", 4),
)

_TINY = (
    ("dense-3x6", "", "perturbed", 3),
    ("sparse-3x5", "", "independent", 3),
    ("eos-3x6", "", "perturbed", 3),
    ("skew-3x5", "temperature=1.5,top_k=2", "perturbed", 4),
    ("penalty-3x6", "", "perturbed", 3),
    ("recurrent-3x6", "", "perturbed", 3),
    ("dense-2x8", "", "perturbed", 4),
)


def standard() -> tuple[Case, ...]:
    """Twelve toys with histories, zeros, ends, processors and a greedy row; the long one is judged as a trace."""
    return tuple(_case(*entry) for entry in _STANDARD)


def small() -> tuple[Case, ...]:
    """Five toys of four positions and at most 81 sequences."""
    return tuple(_case(*entry) for entry in _SMALL)


def tiny() -> tuple[Case, ...]:
    """Seven toys of at most 81 sequences; two tokens hide what is wrong with a residual, so that most have three."""
    return tuple(_case(*entry) for entry in _TINY)


def chosen(suite: Sequence[Case] | str | None, claim: Claim, default: str) -> tuple[Case, ...]:
    """The suite that was asked for: cases, a name, or by default the toys with the claim's clusters or those of a name.

    For a relaxed claim a name stands for those of its toys whose sequences are few enough for a joint law.

    Raises:
        InputError: for an unknown name, no case, or one given twice.
    """
    if suite is None:
        suite = clustered(claim.partition) if isinstance(claim, ClusterLossless) else default
    if isinstance(suite, str):
        if suite not in SUITES:
            raise InputError(f"there is no suite {suite!r}; choose {', '.join(SUITES)}, or give cases")
        suite = SUITES[suite]()
        if isinstance(claim, Relaxed):  # a bound on the total variation needs the law of whole sequences
            suite = tuple(case for case in suite if tables.enumerable(case.target))
    if not suite or len({case.name for case in suite}) < len(suite):
        raise InputError(f"the suite holds {[case.name for case in suite]}; give at least one toy, and each once")
    return tuple(suite)


def clustered(partition: Sequence[Sequence[int]]) -> tuple[Case, ...]:
    """Toys with redundant tokens whose own clusters are the partition.

    Raises:
        InputError: none has that partition.
    """
    wanted = tuple(tuple(cluster) for cluster in partition)
    found = [name for name in toymodels.names() if getattr(toymodels.toy(name), "clusters", ()) == wanted]
    if not found:
        raise InputError(
            f"no toy has the clusters {wanted}; pass `suite` with one of your own, such as "
            "((0, 1), (2, 3)) with synonyms-4x5"
        )
    return tuple(_case(name, "", "perturbed", toymodels.toy(name).length) for name in found)


SUITES = {"standard": standard, "small": small, "tiny": tiny}


def _case(name: str, processors: str, kind: str, length: int) -> Case:
    model = toymodels.toy(name)
    model = model if length == model.length else Shortened(model, length)
    model = Processed(model, parse_processors(processors)) if processors else model
    return Case(model, toymodels.draft(kind, model))
