"""Judging a decoder: what it takes, ids or vectors, says how.

Over ids it is proved or refuted exactly (`proving.py`); over vectors it is tested (`continuous.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from specverify.catalogue import near
from specverify.claims import Claim, ClusterLossless, Lossless, Relaxed
from specverify.deadline import Deadline
from specverify.declared import Tokens
from specverify.errors import InputError, OptionError
from specverify.evidence.budget import Budget
from specverify.evidence.search import SMALL
from specverify.subjects import target_file
from specverify.subjects.continuous import NO_VOCAB, judge_continuous
from specverify.subjects.factory import as_factory
from specverify.subjects.judgement import Judgement
from specverify.subjects.modes import own_claim
from specverify.subjects.proving import AT_LEAST, OfVectors, Proving
from specverify.subjects.refuting import Plan
from specverify.subjects.tokens import takes
from specverify.verdict import Kind
from specverify.worlds import Pace
from toymodels import continuous, names

EXAMPLES = 300
"""Cases that are drawn before a decoder is taken to be right."""
OVER_VECTORS = "vectors: it takes them, too, and was judged over ids; `--level continuous` judges it over vectors"


def judge_decoder(
    subject: Any,
    claim: Claim | None = None,
    *,
    name: str | None = None,
    seed: int = 0,
    seconds: float = 60.0,
    delta: float | None = None,
    alpha: float | None = None,
    beta: float | None = None,
    tokens: Tokens | None = None,
    budget: Budget = SMALL,
    examples: int = EXAMPLES,
    toys: Sequence[str] | None = None,
    toy: str | None = None,
    target: str | None = None,
) -> Judgement:
    """Prove or refute what a decoder claims.

    Args:
        subject: a decoder, what makes one, or a reference to one of these (see `factory.as_factory`).
        claim: what it claims; by default what it says of itself in `claim`, else that it is lossless.

    Other arguments:
        name: how to call it.
        seed: of the search, and of samples.
        seconds: of processor time, when to stop; what was left out by then is listed as not covered.
        delta: asked of the checks of a decoder of vectors, as alpha and beta are (see `judge_continuous`).
        alpha: probability of refuting a perfect decoder.
        beta: probability of missing a discrepancy of delta on a toy.
        tokens: over which a decoder is judged that takes both; by default over ids, or over vectors if one of delta,
            alpha and beta is given.
        budget: of each enumeration; what is larger is listed as not covered.
        examples: how many cases are drawn before the decoder is taken to be right.
        toys: by name, those to prove it on; by default all that suit, and models beside them, small and large.
        toy: the one to prove it on, and the verdict is INCONCLUSIVE if that cannot be done.
        target: the same of a file of laws (`target_file`), for a decoder of ids.

    A decoder of vectors is judged by `judge_continuous`, whose arguments and verdicts are then in place of those here.

    Returns:
        PROVED; CONSISTENT if part of it could only be sampled, or if it is right up to the rounding of float32;
        REFUTED, with a certificate unless only samples say so; INCONCLUSIVE if it rounds too coarsely to be told from a
        wrong one; VACUOUS if no draft was ever rejected, or a relaxed claim allows nearly everything; or ERROR with the
        reason.

    Raises:
        InputError: the subject is no decoder and makes none, or the claim is none.
        OptionError: delta, alpha or beta is given for a decoder of ids.
    """
    if claim is not None and not isinstance(claim, Lossless | ClusterLossless | Relaxed):
        raise InputError(f"{claim!r} is no claim; choose Lossless(), Relaxed(tv) or ClusterLossless(partition)")
    factory = as_factory(subject, name)
    toys = toys if toy is None else (toy,)
    if toy is not None and toy not in names() and not continuous.known(toy):
        raise InputError(f"unknown toy model {toy!r}; {near(toy, (*names(), *continuous.names()))}")
    tokens = "vectors" if toy is not None and continuous.known(toy) else tokens
    toys = toys if target is None else ()
    notes: tuple[str, ...] = ()
    of_vectors = partial(judge_continuous, factory, claim, seed=seed, seconds=seconds, toys=toys)
    if delta is not None:
        of_vectors = partial(of_vectors, delta=delta)
    if alpha is not None:
        of_vectors = partial(of_vectors, alpha=alpha)
    if beta is not None:
        of_vectors = partial(of_vectors, beta=beta)
    rates = {"delta": delta, "alpha": alpha, "beta": beta}
    asked = [name for name, rate in rates.items() if rate is not None]
    if asked or tokens == "vectors" or factory.tokens == frozenset(["vectors"]):
        if takes(factory, "vectors") or not takes(factory, "ids"):
            _check(toy, target, "vectors")
            return of_vectors()
        if asked:
            raise OptionError(f"a decoder of ids is judged without {', '.join(asked)}; leave it out")
        notes = ("judged over ids, the only tokens that it takes",)
    budget = replace(budget, deadline=Deadline(max(AT_LEAST, seconds)), pace=Pace(budget.rows, timed=True))
    _check(toy, target, "ids")
    due = toy if target is None else target_file.weights(target_file.load(target))
    plan = Plan(seed, Deadline(seconds), budget, examples, None if toys is None else tuple(toys), due)
    try:
        found = Proving(factory, claim or own_claim(factory), plan).judge()
    except OfVectors:
        _check(toy, target, "vectors")
        return of_vectors()
    if found.verdict.kind not in (Kind.REFUTED, Kind.ERROR) and takes(factory, "vectors"):
        found = replace(found, not_covered=(*found.not_covered[:1], OVER_VECTORS, *found.not_covered[1:]))
    if found.verdict.kind is Kind.ERROR:
        if takes(factory, "vectors"):
            notes += ("judged over ids; it takes vectors, too, over which `--level continuous` judges it",)
        elif NO_VOCAB in found.verdict.reason:
            notes += (
                "judged over ids; what takes vectors of one size alone is judged on a toy of that, such as "
                "`--toy gauss-3x9` (3 dimensions, 9 positions)",
            )
    return replace(found, notes=(*found.notes, *notes))


def _check(toy: str | None, target: str | None, of: Tokens) -> None:
    """Whether a decoder of ids, or of vectors, can be judged on what was asked for."""
    if toy is not None and continuous.known(toy) != (of == "vectors"):
        raise OptionError(
            f"toy {toy!r} has no {of}, which are what this decoder takes; `specverify list models` has others"
        )
    if target is not None and of == "vectors":
        raise OptionError("a file of laws is a target for decoders of ids, and this one takes vectors; leave it out")
