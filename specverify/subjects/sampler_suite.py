"""The toys that black boxes are judged on: a target law and a draft model each, chosen so that what goes wrong shows.

standard()           for samplers of some ten thousand sequences a second, such as a batched decoder on toys
small()              for those of a hundred, such as `generate` of an engine at batch 1
smallest()           for proofs, as far as time allows: the smallest first
tiny()               for proofs
guided()             guidance alone
processors()         cut laws alone
clustered(partition) for a claim about clusters of tokens
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

import toymodels
from specverify.catalogue import near
from specverify.claims import Claim, ClusterLossless, Relaxed
from specverify.errors import InputError
from specverify.evidence.sequences import sequence_index, target_law
from specverify.model import Model
from specverify.processors import Guided, Processed, parse_processors, top_k, top_k_high, top_k_ties
from specverify.subjects.shortened import Closed, Ended, Shortened, guided_still
from toymodels import brief, tables
from toymodels.wide import large


@dataclass(frozen=True)
class Case:
    """What one series of calls is given.

    Attributes:
        target: the model whose law the sequences must have.
        draft: a draft model over the same tokens, which the sampler may ignore.
        telling: whether it shows what others hide, so that nothing is proved without it.
    """

    target: Model
    draft: Model
    telling: bool = False

    def __post_init__(self) -> None:
        for what in ("vocab", "length"):
            if getattr(self.target, what) != getattr(self.draft, what):
                raise InputError(
                    f"the draft model {self.draft.name!r} has {what} {getattr(self.draft, what)}, the target "
                    f"{self.target.name!r} {getattr(self.target, what)}; they must cover the same sequences"
                )

    @property
    def guided(self) -> bool:
        """Whether the target is, and so handed over as two laws to what guides by itself."""
        return isinstance(guided_still(self.target), Guided)

    @property
    def name(self) -> str:
        """The target's name, and the draft's kind."""
        return f"{self.target.name} ({self.draft.name.split(':')[0]} draft)"


# toy, processors, kind of draft model, positions
_CUTS = "temperature=1.3,top_k=4,top_p=0.9"
_TAILS = "temperature=1.5,top_p=0.7,min_p=0.4"  # each of which matters, and no two tokens tie
_WARM = "temperature=1.4,min_p=0.3"
_STANDARD = (
    ("hash-16x24", "", "perturbed", 24),  # rows too long to repeat by chance, sixteen tokens
    ("sparse-3x5", "", "independent", 4),  # zeros; drafts that p forbids
    ("ties-3x5", "top_k=1", "perturbed", 5),  # greedy
    ("ties-3x5", "top_k=2", "perturbed", 4),  # ties at the last token that is kept
    ("skew-3x5", "temperature=1.5,top_k=2", "perturbed", 4),  # processors; no two tokens tie
    ("dense-5x4", _CUTS, "perturbed", 3),  # processors behind each other, each of which cuts something
    ("skew-3x5", _TAILS, "perturbed", 4),  # tails cut by mass and by share
    ("guided-2x5", "", "perturbed", 5),  # guidance; an unconditional law with a history of its own
    ("guided-3x4", "temperature=0.7,top_k=2", "perturbed", 4),  # processors behind guidance
    ("switch-3x6", "", "independent", 4),  # a mask that a token flips
    ("eos-3x6", "", "perturbed", 4),  # rows that end at different lengths
    ("raster-4x6", "", "independent", 4),  # a forced token
    ("zero-3x5", "", "perturbed", 4),  # token 0 is the most probable
    ("penalty-3x6", "", "perturbed", 4),  # counts
    ("recurrent-3x6", "", "perturbed", 4),  # a state
    ("dense-8x3", "", "perturbed", 2),  # residuals over many tokens
)
LONG = 7
VOCAB, LENGTH = 128, 24
"""Tokens and positions of the toy that shows what is cut by default from vocabularies of a real size."""
_SMALL = (
    ("sparse-3x5", "", "independent", 4),
    ("eos-3x6", "", "perturbed", 4),
    ("skew-3x5", "temperature=1.5,top_k=2", "perturbed", 4),
    ("skew-3x5", _TAILS, "perturbed", 4),
    ("ties-3x5", "top_k=2", "perturbed", 4),
    ("guided-2x5", "", "perturbed", 5),
    ("recurrent-3x6", "", "perturbed", 4),
    ("penalty-3x6", "", "perturbed", 4),
)

_TINY = (
    ("dense-3x6", "", "perturbed", 3),
    ("sparse-3x5", "", "independent", 3),
    ("eos-3x6", "", "perturbed", 3),
    ("skew-3x5", "temperature=1.5,top_k=2", "perturbed", 4),
    ("ties-3x5", "top_k=2", "perturbed", 3),
    ("guided-2x5", "", "perturbed", 4),
    ("penalty-3x6", "", "perturbed", 3),
    ("recurrent-3x6", "", "perturbed", 3),
    ("dense-2x8", "", "perturbed", 3),
)
_TELLING = (
    ("guided-2x5", "", "perturbed", 3),  # those who guide their laws themselves, or have what cuts them handed
    ("skew-3x5", "temperature=1.5,top_k=2", "perturbed", 2),
)
_SMALLEST = (
    ("dense-2x8", "", "perturbed", 2),
    ("dense-3x6", "", "perturbed", 2),
    ("dense-2x8", "", "independent", 3),
    ("sparse-3x5", "", "independent", 2),
    ("skew-3x5", _TAILS, "perturbed", 2),
)
_GUIDED = (
    ("guided-2x5", "", "perturbed", 5),
    ("guided-3x4", "", "perturbed", 4),
    ("guided-3x4", "temperature=0.8,top_p=0.95", "perturbed", 4),
)
_PROCESSORS = (
    ("ties-3x5", "top_k=1", "perturbed", 4),
    ("ties-3x5", "top_k=2", "perturbed", 4),
    ("skew-3x5", "temperature=1.5,top_k=2", "perturbed", 4),
    ("dense-5x4", f"{_CUTS},min_p=0.1", "perturbed", 3),
    ("dense-5x4", "temperature=0.7,min_p=0.2", "perturbed", 3),
    ("dense-8x3", "top_k=5,top_p=0.8", "perturbed", 3),
    ("eos-3x6", "temperature=0.8,top_p=0.9", "perturbed", 4),
)


def standard() -> tuple[Case, ...]:
    """Toys with histories, zeros, ends, processors, guidance and a greedy row; the long ones are judged as traces."""
    wide, drafts = (large(f"{name}-{VOCAB}x{LENGTH}", VOCAB, LENGTH) for name in ("wide", "drafts"))
    return (*(_case(*entry) for entry in _STANDARD), Case(wide, drafts))


def small() -> tuple[Case, ...]:
    """Eight toys of four or five positions and at most 81 sequences."""
    return tuple(_case(*entry) for entry in _SMALL)


def tiny() -> tuple[Case, ...]:
    """Nine toys of at most 81 sequences; two tokens hide what is wrong with a residual, so that most have three."""
    return tuple(_case(*entry) for entry in _TINY)


def smallest() -> tuple[Case, ...]:
    """Eight that are telling, five of two or three positions, then those of `tiny`: a defect shows as early as it can.

    Nothing is proved without those that are telling, the last of which takes most: they show all known-wrong decoders
    but one that needs siblings in two columns; two are guided, and two are cut, of which one ends. Past their ends
    these, and most of the others, leave no choice: a window that is not cut there takes no worlds for what is never
    used.
    """
    pairs = ((brief.pair(), brief.LENGTH), (brief.close(), 2), (brief.wide(), 1), (brief.rows(), 5))
    *first, late = (
        Case(Closed(target, length), Closed(drafts, length, past=1), telling=True)
        for (target, drafts), length in (*pairs, (brief.late(), brief.LATE))
    )
    shaped = (replace(case, telling=True) for case in map(_closed, _TELLING))
    rest = sorted(tiny(), key=lambda case: case.target.vocab**case.target.length)
    return (*first, _ends(), *shaped, late, *map(_closed, _SMALLEST), *rest, _long())


def _ends() -> Case:
    """A toy that ends, and is cut, at positions that windows of two to five reach with their bonus alone."""
    target, drafts = brief.ends()
    cut = Processed(Closed(target, brief.ENDS), parse_processors(_WARM))
    return Case(cut, Closed(drafts, brief.ENDS, past=1), telling=True)


def _long() -> Case:
    """A guided toy of two tokens, longer than most windows: what guidance lacks behind several drafts shows there."""
    model = toymodels.toy("dense-2x8")
    target = Guided(model, toymodels.draft("independent", model), 2.0, name="guided-2x8")
    return Case(Shortened(target, LONG), Shortened(toymodels.draft("perturbed", model), LONG))


def guided() -> tuple[Case, ...]:
    """Guided toys, one with processors behind guidance."""
    return tuple(_case(*entry) for entry in _GUIDED)


def processors() -> tuple[Case, ...]:
    """Toys whose laws are cut in every way, alone and one cut behind another."""
    return tuple(_case(*entry) for entry in _PROCESSORS)


def chosen(suite: Sequence[Case] | str | None, claim: Claim, default: str) -> tuple[Case, ...]:
    """The suite that was asked for: cases, a name, or by default the toys with the claim's clusters or those of a name.

    For a relaxed claim a name stands for those of its toys whose sequences are few enough for a joint law.

    Raises:
        InputError: for an unknown name, no case, or one given twice.
    """
    if suite is None:
        suite = clustered(claim.partition) if isinstance(claim, ClusterLossless) else default
    if isinstance(suite, str):
        suite = named(suite)
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


SUITES: dict[str, Callable[[], tuple[Case, ...]]] = {
    "standard": standard, "small": small, "smallest": smallest, "tiny": tiny, "guided": guided,
    "processors": processors,
}  # fmt: skip
CONVENTIONS = {"ties": "top_k_ties", "high": "top_k_high"}
"""What may stand behind a suite's name: what top-k keeps of the tokens that tie with the k-th, and the processor that
does. Ours keeps the lowest ids; "ties" keeps them all, "high" the highest ids."""
TOP_K = {"": top_k, "ties": top_k_ties, "high": top_k_high}
"""Top-k by convention."""


def named(name: str) -> tuple[Case, ...]:
    """A suite by its name, or by its name and a convention: "standard", "processors-ties".

    Raises:
        InputError: there is none; the message lists names that are close.
    """
    known = suite_names()
    if name not in known:
        raise InputError(
            f"unknown suite {name!r}; {near(name, known)} (-ties or -high behind it: top-k keeps all tokens "
            "that tie with the k-th, or the highest ids)"
        )
    base, _, convention = name.partition("-")
    cases = SUITES[base]()
    return tuple(Case(by_convention(case.target, convention), case.draft) for case in cases) if convention else cases


def suite_names() -> list[str]:
    """Of all suites, by all conventions."""
    return [*SUITES, *(f"{suite}-{convention}" for suite in SUITES for convention in CONVENTIONS)]


def by_convention(target: Model, convention: str) -> Model:
    """The target with another top-k, if it has one: "" for ours, or a name of `CONVENTIONS`."""
    if not isinstance(target, Processed):
        return target
    processor = CONVENTIONS.get(convention, "top_k")
    steps = tuple(
        parse_processors(f"{processor}={step.setting}")[0] if step.function in TOP_K.values() else step
        for step in target.processors
    )
    return Processed(target.inner, steps)


def _closed(entry: tuple[str, str, str, int]) -> Case:
    return _case(*entry, closed=not entry[0].startswith("guided"))


def _case(name: str, processors: str, kind: str, length: int, closed: bool = False) -> Case:
    model = toymodels.toy(name)
    model = model if model.eos is None else Ended(model)
    cut = Closed if closed else Shortened
    model = model if length == model.length else cut(model, length)
    model = Processed(model, parse_processors(processors)) if processors else model
    drafts = toymodels.draft(kind, model)
    return Case(model, Closed(drafts, length, past=1) if closed else drafts)


def claimed_law(case: Case, claim: Claim) -> tuple[np.ndarray | None, Tensor | None, int]:
    """The law of the sequences as far as it is claimed, the cluster of each token, and how many tokens or clusters."""
    model = case.target
    if not tables.enumerable(model):
        return None, None, model.vocab
    law = target_law(model)
    if not isinstance(claim, ClusterLossless):
        return law.cpu().numpy(), None, model.vocab
    clusters = len(claim.partition)
    if sum(map(len, claim.partition)) != model.vocab or clusters < 2:
        raise InputError(
            f"{case.name}: the claim has {clusters} clusters of {sum(map(len, claim.partition))} tokens, the toy "
            f"{model.vocab} tokens; give a suite with the claim's own clusters, two or more"
        )
    cluster = torch.empty(model.vocab, dtype=torch.int64)
    for number, members in enumerate(claim.partition):
        cluster[list(members)] = number
    every = torch.cartesian_prod(*[torch.arange(model.vocab)] * model.length).reshape(-1, model.length)
    index = sequence_index(cluster[every], clusters)
    return np.bincount(index, law.cpu().numpy(), clusters**model.length), cluster, clusters
