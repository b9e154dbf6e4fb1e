"""The exact law of a black box that draws with torch, numpy or Python: every possible run of it, one row at a time.

    from specverify.integrations.transformers import generation_sampler
    from specverify.subjects.sampler_exact import prove_sampler

    assisted = generation_sampler(assistant="assistant_model", num_assistant_tokens=3)
    print(prove_sampler(assisted).verdict)

Works for samplers that draw tokens and whole numbers, and compare uniform numbers, as they are or as arithmetic with
constants leaves them, with what is known (docs/judge.md lists what is followed); others get the verdict ERROR, which
names the operation, and are judged by their samples (`sampler.judge_sampler`).
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
from jaxtyping import Float

from specverify.claims import Claim, Lossless, Relaxed
from specverify.deadline import Deadline
from specverify.errors import BudgetError, InputError, number_of
from specverify.subjects.judgement import Judgement
from specverify.subjects.places import Prefixed
from specverify.subjects.sampler_law import Chances, law_of
from specverify.subjects.sampler_lines import settled
from specverify.subjects.sampler_location import locate_exactly, sentence
from specverify.subjects.sampler_matches import matches_law
from specverify.subjects.sampler_series import Sampler, message_of, name_of
from specverify.subjects.sampler_suite import Case, chosen, claimed_law
from specverify.verdict import Kind, Verdict, combine

BESIDE = "rows beside each other in a batch, and other calls: each world is one call for one sequence"
NOT_COVERED = (
    BESIDE,
    "whether calls with other seeds are independent: seeds far apart were seen to get other random numbers, no more",
    "randomness from elsewhere than torch, numpy and Python's random that is the same for every seed",
    "longer sequences and windows, and larger vocabularies, than these toys have",
    "coins of exactly 0, and other ends of floating point: numbers are taken as real",
    "what happens inside: whether a draft was verified, and which branch a token came from",
)
ENOUGH = 2
"""Toys on which it cannot be followed before the others are left, if it could on none."""
BUDGET = 20_000
"""Worlds on one toy."""
LEAST = 2
"""Toys that are to be finished for a proof of one row, where others are not; of two rows one is enough."""
SHOWN = 3
"""Toys that were not reached, of which a verdict names so many."""
LEAK = 1e-12
"""Rounding gives no chance to a token of probability 0: what is forbidden may come so rarely, and no more."""


class ExactRow(TypedDict):
    """A toy of which every world was followed."""

    model: str
    tv: float
    worlds: int
    leak: float
    coins: float
    sequences: int


def prove_sampler(
    sample: Sampler,
    claim: Claim = Lossless(),  # noqa: B008  (frozen)
    *,
    reference: Sampler | None = None,
    tolerance: float = 1e-6,
    budget: int = BUDGET,
    seconds: float = 600.0,
    suite: Sequence[Case] | str | None = None,
    name: str | None = None,
    whole: float | None = None,
    rows: int = 1,
    enough: float = math.inf,
) -> Judgement:
    """Prove or refute a claim by the exact law of a sampler on tiny toys, as many of them as time allows.

    A claim that fails on one toy is refuted there, also where worlds are left: their chances only add up. One that
    holds on all toys that were followed to the end is proved on those, which the reason counts.

    Args:
        sample: (target, draft, n, seed) -> tokens; called with n = 1 and seed 0, once in every world, and
            with other seeds in some.
        claim: what it claims.
        reference: another sampler, whose own law is due instead of the target's: plain decoding with the settings whose
            speculative path is judged.

    Other args:
        tolerance: the total variation that rounding may leave; samplers that work in float32 leave some 1e-7.
        budget: most worlds on one toy.
        seconds: how long it may take, of processor time.
        suite: the toys, in the order in which they are taken, or the name of a suite of `sampler_suite`; by default
            "smallest", or the toys with the claim's clusters.
        name: what to call it.
        whole: the seconds that were asked for, of which these are a part, to say how many would do; by default these.
        rows: of each call. The law of several is due to be that of as many independent ones.
        enough: seconds after which no toy is begun but those that are telling.

    Raises:
        InputError: for a sampler that asks for another law than the target's (`asks`), without a reference.
    """
    if reference is None:
        prepare(sample, claim)
    start = time.perf_counter()
    end, soon = Deadline(seconds), Deadline(min(seconds, enough))
    what = "the target" if reference is None else name_of(reference)
    allowed = tolerance + (claim.tv if isinstance(claim, Relaxed) else 0.0)
    verdicts: list[Verdict] = []
    exact: list[ExactRow] = []
    done: list[Case] = []
    unfinished: dict[str, str] = {}
    location: Prefixed | None = None
    cases = chosen(suite, claim, "smallest")
    for case in cases:
        if (end if case.telling else soon).over:
            unfinished[case.name] = "the time was up"
            continue
        try:
            law = law_of(sample, case, claim, budget, end, tolerance / 10, rows)
            alone = _due(reference, case, claim, budget, end, tolerance / 10)
            due = functools.reduce(np.multiply.outer, [alone] * rows).ravel()
        except BudgetError as error:
            unfinished[case.name] = str(error)
            continue
        except Exception as error:
            verdicts.append(Verdict(Kind.ERROR, f"on {case.name}: {message_of(error)}"))
            if len(verdicts) == ENOUGH and not done:
                break
            continue
        each = _of_rows(law.came, rows)
        apart = [_tv(came, alone, not law.stopped) for came in each]
        tv = _tv(law.came, due, not law.stopped)
        # Rows are due to be independent, whatever each may be off by; where worlds are left, of what it may be.
        bound = tv - rows * allowed if law.stopped else _tv(law.came, functools.reduce(np.multiply.outer, each).ravel())
        leak = float(law.came[due == 0].sum()) if reference is None and not isinstance(claim, Relaxed) else 0.0
        right = max(apart) <= allowed and bound <= tolerance and leak <= LEAK
        if law.stopped and right:
            unfinished[case.name] = law.missing(seconds, whole or seconds)
            continue
        found: ExactRow = {
            "model": case.name, "tv": tv, "leak": leak, "worlds": law.worlds, "coins": law.coins, "sequences": len(due)
        }  # fmt: skip
        exact.append(found)
        done.append(case)
        if right:
            verdicts.append(Verdict(Kind.PROVED, f"on {case.name}: exact TV {tv:.2g}"))
            continue
        said = [f"{'TV at least' if law.stopped else 'exact TV'} {tv:.6g} from {what}"]
        said += [f"sequences that it forbids come with probability {leak:.2g}"] if leak > LEAK else []
        worst = int(np.argmax(apart))
        if not law.stopped and apart[worst] > allowed:
            vocab = round(len(alone) ** (1 / case.target.length))  # of clusters, where they are claimed
            location = locate_exactly(alone, each[worst], vocab, tolerance)
            like = matches_law(case, each[worst], tolerance) if reference is None and claim == Lossless() else []
            where = settled(law.paths, location["prefix"]) if rows == 1 else ""
            row = f"row {worst} of {rows} in a call: " if rows > 1 else ""
            eos = case.target.eos if vocab == case.target.vocab else None
            said += [f"{row}{sentence(location, eos)}{where and f', {where}'}", *like]
        elif bound > tolerance and not law.stopped:
            said.append(f"each of {rows} rows of a call has the law by itself, but they depend on each other")
        verdicts.append(Verdict(Kind.REFUTED, f"on {case.name}: {'; '.join(said)}"))
        break
    verdict = _verdict(verdicts, exact, done, cases, unfinished, what, LEAST if rows == 1 else 1)
    called = name or name_of(sample)
    return Judgement(
        subject=called,
        level="sampler",
        claim=str(claim),
        verdict=verdict,
        exact=exact,
        location=location,
        not_covered=(
            *getattr(sample, "leaves", ()),
            *([f"toys that were not followed to the end: {', '.join(unfinished)}"] if unfinished else []),
            *NOT_COVERED,
        ),
        reproduce=f"prove_sampler({called}, {claim!r}, tolerance={tolerance:g}, budget={budget}, seconds={seconds:g}"
        f"{f', suite={suite!r}' if isinstance(suite, str) else ''})",
        seconds=time.perf_counter() - start,
        notes=(
            *(verdict.reason for verdict in verdicts if verdict.kind is Kind.ERROR),
            *(f"on {name}: {why}" for name, why in unfinished.items()),
        ),
    )


def _of_rows(came: Chances, rows: int) -> list[Chances]:
    """The law of each row of a call, from that of all together."""
    together = came.reshape([round(len(came) ** (1 / rows))] * rows)
    return [together.sum(tuple(other for other in range(rows) if other != row)) for row in range(rows)]


def _tv(came: Chances, due: Chances, whole: bool = True) -> float:
    """How far off it is; where worlds are left, at least. What none was followed to may be anywhere."""
    over, under = np.maximum(came - due, 0).sum(), np.maximum(due - came, 0).sum()
    return float(0.5 * (over + under + max(0.0, 1 - came.sum())) if whole else over)


def _verdict(
    verdicts: Sequence[Verdict],
    exact: Sequence[ExactRow],
    done: Sequence[Case],
    cases: Sequence[Case],
    unfinished: Mapping[str, str],
    what: str,
    least: int,
) -> Verdict:
    """One verdict over all toys: those that were not finished take nothing away from those that were."""
    kind = combine(verdict.kind for verdict in verdicts) if verdicts else Kind.INCONCLUSIVE
    if not verdicts:
        return Verdict(kind, f"on {next(iter(unfinished))}: {next(iter(unfinished.values()))}")
    if kind is not Kind.PROVED:
        return Verdict(kind, next(verdict.reason for verdict in verdicts if verdict.kind is kind))
    largest = max(range(len(done)), key=lambda at: (exact[at]["sequences"], exact[at]["worlds"]))
    size = f"{done[largest].target.vocab}x{done[largest].target.length}"
    of = f"{len(exact)} of {len(cases)} toys" if unfinished else f"{number_of(len(exact), 'toy')}"
    reason = (
        f"on {of} (largest {size}, {exact[largest]['worlds']:,} worlds), {sum(row['worlds'] for row in exact):,} "
        f"worlds: exact TV at most {max(row['tv'] for row in exact):.2g} from {what}"
    )
    if unfinished:
        more = f" and {len(unfinished) - SHOWN} more" if len(unfinished) > SHOWN else ""
        reason += f"; not reached: {', '.join([*unfinished][:SHOWN])}{more}"
    few, missing = "", next(iter(unfinished), "")
    if unfinished and max(case.target.vocab for case in done) < 3 <= max(case.target.vocab for case in cases):
        few = "Two tokens hide what is wrong with a residual"
    elif unfinished and len(done) < least:
        few = "One toy shows too little of what may be wrong"
    elif telling := [case.name for case in cases if case.telling and case.name in unfinished and least > 1]:
        few, missing = f"Nothing is proved without {' and '.join(telling)}, where others hide it", telling[0]
    if few:
        return Verdict(Kind.INCONCLUSIVE, f"nothing wrong {reason}. {few}. On {missing}: {unfinished[missing]}")
    return Verdict(kind, reason)


def prepare(sample: Sampler, claim: Claim) -> None:
    """Let a sampler find out what it has to before it is judged (`look`), where it says how.

    Raises:
        InputError: it is told to draw from another law than the target's (`asks`), by which it would be refuted.
    """
    getattr(sample, "look", lambda: None)()
    if (asks := getattr(sample, "asks", ())) and not isinstance(claim, Relaxed):
        raise InputError(
            f"{name_of(sample)} is given {', '.join(asks)}, which asks for another law than the target's, so that it "
            "cannot be held against it; leave it out (what a target asks for is handed over, see --suite processors "
            "and guided), or hold it against plain decoding with the same: prove_sampler(..., reference=plain)"
        )


def _due(
    reference: Sampler | None, case: Case, claim: Claim, budget: int, deadline: Deadline, missing: float
) -> Float[np.ndarray, " sequences"]:
    """The law that is due."""
    if reference is None:
        due = claimed_law(case, claim)[0]
        assert due is not None  # `law_of` has looked
        return due
    law = law_of(reference, case, claim, budget, deadline, missing)
    if law.stopped:
        raise BudgetError(f"{name_of(reference)}: {law.stopped}")
    return law.came
