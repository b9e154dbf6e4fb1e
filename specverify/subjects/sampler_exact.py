"""The exact law of a black box that draws with torch: every possible run of it, one row at a time.

    from specverify.integrations.transformers import generation_sampler
    from specverify.subjects.sampler_exact import prove_sampler

    assisted = generation_sampler(assistant="assistant_model", num_assistant_tokens=3)
    print(prove_sampler(assisted).verdict)

Works for samplers that draw with `torch.multinomial` and compare `torch.rand`, whatever else they do; others get the
verdict ERROR, which names the draw, and are judged by their samples (`sampler.judge_sampler`).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch

from specverify.claims import Claim, Lossless, Relaxed
from specverify.deadline import Deadline
from specverify.errors import BudgetError
from specverify.evidence.sequences import sequence_index
from specverify.subjects.judgement import Judgement
from specverify.subjects.places import Prefixed
from specverify.subjects.sampler_location import locate_exactly, sentence
from specverify.subjects.sampler_logs import split
from specverify.subjects.sampler_matches import matches_law
from specverify.subjects.sampler_series import Sampler, checked, claimed_law, message_of, name_of
from specverify.subjects.sampler_suite import Case, chosen
from specverify.subjects.sampler_worlds import World, worlds
from specverify.verdict import Kind, Verdict, combine

NOT_COVERED = (
    "rows beside each other in a batch, and other calls: each world is one call for one sequence",
    "whether calls with other seeds are independent: seeds far apart were seen to get other random numbers, no more",
    "randomness from elsewhere than torch's generators that is the same for every seed",
    "coins of exactly 0, and other ends of floating point: numbers are taken as real",
    "what happens inside: whether a draft was verified, and which branch a token came from",
)

SEEDS = (0, 918_273_645, *range(20_001, 2**30, 104_729_003))
"""The seed of every world, and others, far away: the same draws must lead to the same tokens. So many that what is not
torch's does not come out the same by luck."""


class ExactRow(TypedDict):
    """A toy of which every world was followed."""

    model: str
    tv: float
    worlds: int
    coins: float
    sequences: int


def prove_sampler(
    sample: Sampler,
    claim: Claim = Lossless(),  # noqa: B008  (frozen)
    *,
    reference: Sampler | None = None,
    tolerance: float = 1e-6,
    budget: int = 20_000,
    seconds: float = 600.0,
    suite: Sequence[Case] | str | None = None,
    name: str | None = None,
) -> Judgement:
    """Prove or refute a claim by the exact law of a sampler on tiny toys.

    Args:
        sample: (target, draft, n, seed) -> tokens; called with n = 1 and seed 0, once in every world, and
            with other seeds in some.
        claim: what it claims.
        reference: another sampler, whose own law is due instead of the target's: plain decoding with the settings whose
            speculative path is judged.

    Other args:
        tolerance: the total variation that rounding may leave; samplers that work in float32 leave some 1e-7.
        budget: most worlds on one toy.
        seconds: how long it may take.
        suite: the toys, or the name of a suite of `sampler_suite`; by default "tiny", or the toys with the claim's
            clusters.
        name: what to call it.
    """
    start = time.perf_counter()
    end = Deadline(seconds)
    what = "the target" if reference is None else name_of(reference)
    verdicts: list[Verdict] = []
    exact: list[ExactRow] = []
    location: Prefixed | None = None
    for case in chosen(suite, claim, "tiny"):
        try:
            came, count, coins = _law(sample, case, claim, budget, end)
            due = claimed_law(case, claim)[0] if reference is None else _law(reference, case, claim, budget, end)[0]
            assert due is not None  # `_law` has looked
        except BudgetError as error:
            verdicts.append(Verdict(Kind.INCONCLUSIVE, f"on {case.name}: {error}"))
        except Exception as error:
            verdicts.append(Verdict(Kind.ERROR, f"on {case.name}: {message_of(error)}"))
        else:
            # What no world was followed to, chances of rounding's size, may be anywhere.
            tv = 0.5 * float(np.abs(came - due).sum() + max(0.0, 1 - came.sum()))
            exact.append({"model": case.name, "tv": tv, "worlds": count, "coins": coins, "sequences": len(due)})
            if tv <= tolerance + (claim.tv if isinstance(claim, Relaxed) else 0.0):
                verdicts.append(Verdict(Kind.PROVED, f"on {case.name}: exact TV {tv:.2g}"))
                continue
            vocab = round(len(due) ** (1 / case.target.length))
            found = locate_exactly(due, came, vocab, tolerance)
            location = location or found
            like = matches_law(case, came, tolerance) if isinstance(claim, Lossless) and reference is None else []
            said = "; ".join([f"exact TV {tv:.6g} from {what}", sentence(found), *like])
            verdicts.append(Verdict(Kind.REFUTED, f"on {case.name}: {said}"))
    kind = combine(verdict.kind for verdict in verdicts)
    reason = next(verdict.reason for verdict in verdicts if verdict.kind is kind)
    if kind is Kind.PROVED:
        reason = (
            f"{len(exact)} toys, {sum(row['worlds'] for row in exact):,} worlds: exact TV at most "
            f"{max(row['tv'] for row in exact):.2g} from {what}"
        )
    called = name or name_of(sample)
    return Judgement(
        subject=called,
        level="sampler",
        claim=str(claim),
        verdict=Verdict(kind, reason),
        exact=exact,
        location=location,
        not_covered=NOT_COVERED,
        reproduce=f"prove_sampler({called}, {claim!r}, tolerance={tolerance:g}, budget={budget}, seconds={seconds:g}"
        f"{f', suite={suite!r}' if isinstance(suite, str) else ''})",
        seconds=time.perf_counter() - start,
        notes=tuple(verdict.reason for verdict in verdicts if verdict.kind in (Kind.ERROR, Kind.INCONCLUSIVE)),
    )


def _law(sample: Sampler, case: Case, claim: Claim, budget: int, deadline: Deadline) -> tuple[np.ndarray, int, float]:
    """The law that came out of all worlds, how many there were, and the mean number of coins that were open."""
    due, cluster, vocab = claimed_law(case, claim)
    if due is None:
        raise BudgetError("too many sequences to write their law down; use a smaller toy")
    came = np.zeros(len(due))
    count, coins = 0, 0.0

    def program(seed: int) -> torch.Tensor:
        if deadline.over:
            raise BudgetError(f"the time was up after {count:,} worlds; give more seconds, or a smaller toy")
        return checked(split(sample(case.target, case.draft, 1, seed))[0], 1, case.target)

    world: World
    first, *others = (functools.partial(program, seed) for seed in SEEDS)
    for tokens, world in worlds(first, budget=budget, others=others):
        mapped = tokens if cluster is None else cluster[tokens]
        came[int(sequence_index(mapped, vocab))] += world.probability
        coins += world.probability * world.coins
        count += 1
    return came, count, coins
