"""Judging a black box that returns sequences: `sample(target, draft, n, seed) -> tokens`.

    from specverify.decoders import DraftModel, Speculative, sample
    from specverify.subjects.sampler import judge_sampler

    def mine(target, draft, n, seed):
        return sample(Speculative(DraftModel(draft), window=3), target, n, seed).tokens

    judgement = judge_sampler(mine)
    print(judgement.verdict.kind.value, judgement.verdict.reason)

The sampler is called on a suite of toys in turn, the smallest first: with small calls of one row and more, eight calls
of one size with consecutive seeds, then ever larger ones. The calls stop as soon as the evidence suffices to refute the
claim (an e-process, valid whenever one stops), and otherwise at an n fixed beforehand, at which a discrepancy of
`delta` would be seen; then the fixed-n tests are made. The false-alarm rate is split over all checks before that.

What is asked of a sampler besides the law of its sequences: Int[n, length] tokens in range; behind an end of sequence,
that id again; rows that are independent of each other and of other calls with other seeds; the same sequences again for
the same seed; models left as they were; and where it returns log-probabilities beside the tokens, the target's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from specverify.claims import Claim, Lossless
from specverify.deadline import Deadline
from specverify.errors import InputError
from specverify.evidence.design import AlphaBudget
from specverify.evidence.result import aims, check_rates
from specverify.seeds import derived_seed
from specverify.subjects.judgement import Judgement
from specverify.subjects.sampler_batches import DEEP, GROUPS, Batches
from specverify.subjects.sampler_exact import prove_sampler
from specverify.subjects.sampler_series import Sampler, Series, name_of
from specverify.subjects.sampler_suite import Case, check, chosen, one_target
from specverify.subjects.sampler_verdict import Asked, judgement

SURE = 0.8
"""The part of the time left that is planned with, where some toys have to be left."""


def judge_sampler(
    sample: Sampler,
    claim: Claim = Lossless(),  # noqa: B008  (frozen)
    *,
    seed: int = 0,
    delta: float | None = None,
    alpha: float = 1e-6,
    beta: float = 1e-6,
    seconds: float = 300.0,
    suite: Sequence[Case] | str | None = None,
    toy: str | None = None,
    target: str | None = None,
    exact: bool = False,
    name: str | None = None,
    reproducible: bool = True,
) -> Judgement:
    """Judge a sampler.

    Args:
        sample: the black box. It may ignore the draft model.
        claim: what it claims.
        seed: all randomness derives from it, the seeds that the sampler gets included.

    Other args:
        delta: the total variation from the target law, of sequences on any toy of the suite, that must be seen for
            CONSISTENT; None to aim at 0.01, and to answer with what is reached in time. n grows as 1 / delta^2.
        alpha: probability of refuting a perfect sampler.
        beta: probability of missing a discrepancy of delta on a toy.
        seconds: of processor time (see `Deadline`). No call is begun after it; what is seen until then counts. A call
            that hangs is not interrupted.
        suite: the toys, or the name of a suite of `sampler_suite`; by default "standard", or the toys with the claim's
            clusters.
        toy: instead of a suite, one toy by its name.
        target: instead of a suite, one target in words: see `sampler_suite.one_target`.
        exact: by every possible run of the sampler rather than by samples of it, as far as that is possible; see
            `sampler_exact.prove_sampler`. Rates and seed then play no part.
        name: what to call it.
        reproducible: whether the same seed must give the same sequences. If not, that is not asked.

    Raises:
        InputError: for rates, a delta or a suite that cannot be used.
    """
    start = time.process_time()
    check_rates(alpha, beta)
    aim, slack = aims(delta, 0.01)
    if not seconds > 0:
        raise InputError(f"seconds is {seconds}; give the calls some time")
    given = {"suite": suite, "toy": toy, "target": target}
    check({what: value for what, value in given.items() if value is not None})
    suite = suite if (alone := toy or target) is None else (one_target(alone),)
    if exact:
        return prove_sampler(sample, claim, seconds=seconds, suite=suite, name=name)
    cases = chosen(suite, claim, "standard")
    base = derived_seed(seed) % 2**30
    batches = Batches(np.random.default_rng(derived_seed(seed, len(cases))))
    series = [
        Series(sample, case, claim, base + number * 2**16, np.random.default_rng(derived_seed(seed, number)), batches)
        for number, case in enumerate(cases)
    ]
    budget = AlphaBudget(alpha)
    shares = {f"{one.case.name}: {check}": weight for one in series for check, weight in one.checks.items()}
    budget.allocate(shares | dict.fromkeys(GROUPS, 1.0))
    batches.rates = {group: budget.spend(group) for group in GROUPS}
    for one in series:
        one.plan({check: budget.spend(f"{one.case.name}: {check}") for check in one.checks}, aim, beta, seconds)
    asked = Asked(name or name_of(sample), claim, seed, delta, aim, slack, alpha, beta, seconds, suite)
    _carry_out(series, batches, Deadline(seconds), asked, reproducible)
    return judgement(series, batches, asked, time.process_time() - start)


def affordable(series: Sequence[Series], seconds: float, slack: float) -> Sequence[Series]:
    """The cases on which so many seconds lead to an answer, from the one on that takes least.

    Args:
        series: all, of which the first calls were made.
        seconds: of the processor.
        slack: how many times as coarse as what is aimed at an answer may be; where it is 1, all or none are answered.
    """

    def takes(one: Series) -> float:
        enough = one.planned / slack**2  # n grows as 1 / delta^2
        return max(0.0, enough - one.drawn) / one.speed if one.speed else 0.0

    kept: list[Series] = []
    for one in sorted(series, key=takes):
        seconds -= takes(one)
        if slack > 1 and kept and seconds < 0:
            break
        kept.append(one)
    return kept


def _carry_out(
    series: Sequence[Series], batches: Batches, deadline: Deadline, asked: Asked, reproducible: bool
) -> None:
    """Make the calls: the small and the first ones of every case, then whichever is furthest behind, until one is
    refuted. Where there is no time for an answer on all cases, some are left there."""
    again: Series | None = None
    smallest = sorted(series, key=lambda one: one.possible)
    open_ones = [one for one in smallest if one.possible > 1]
    deep = [*open_ones[: DEEP - 1], *open_ones[DEEP - 1 :][-1:]]
    for one in smallest:
        one.play(one in deep, deadline)
        one.advance(deadline)
        if one.refuted:
            break
        if reproducible and again is None and one.first and not one.error:
            again = one
            again.repeat("gives other sequences when it is called twice with the same seed")
    kept = affordable(series, SURE * deadline.left, asked.slack)
    for one in series:
        one.left = one not in kept
    while not any(one.refuted for one in series) and not batches.refuted and not deadline.over:
        behind = min(kept, key=lambda one: one.progress)
        if behind.progress >= 1:
            break
        behind.advance(deadline)
    if again is not None and not again.error and not any(one.refuted for one in series) and not batches.refuted:
        again.repeat("gives other sequences for a seed after other calls than before them: state leaks between calls")
    for one in series:
        one.settle(deadline)
