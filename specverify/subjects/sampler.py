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

What samples do not refute is then followed draw by draw where that can be done (`sampler_exact`), on the smallest toys
first: PROVED is of one row at a time, and what samples of batches saw stands beside it.

What is asked of a sampler besides the law of its sequences: Int[n, length] tokens in range; behind an end of sequence,
that id again; rows that are independent of each other and of other calls with other seeds; the same sequences again for
the same seed; models left as they were; and where it returns log-probabilities beside the tokens, the target's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from specverify.claims import Claim, Lossless
from specverify.deadline import Deadline
from specverify.errors import InputError
from specverify.evidence.design import AlphaBudget
from specverify.evidence.result import aims, check_rates
from specverify.seeds import derived_seed
from specverify.subjects.judgement import Judgement
from specverify.subjects.sampler_batches import DEEP, GROUPS, Batches
from specverify.subjects.sampler_exact import BUDGET, prepare, prove_sampler
from specverify.subjects.sampler_series import Sampler, Series, name_of
from specverify.subjects.sampler_suite import Case, chosen
from specverify.subjects.sampler_target import check, one_target
from specverify.subjects.sampler_together import TO_FOLLOW, in_calls, together
from specverify.subjects.sampler_verdict import Asked, judgement
from specverify.verdict import Kind, Verdict

EXACT, PART = 0.7, 0.1
"""The part of the time in which one row is followed, where nothing is sampled; two rows get no more than that took, or
a small part."""
SAMPLED, FOLLOWED, MOST = 0.55, 0.2, 0.8
"""The parts of the time in which it is sampled, and in which its draws are followed, on telling toys for most of what
is left by then; the rest goes into checks."""
FEW = 400
"""A sampler that gives fewer sequences in the time that samples leave is followed before it is sampled: a proof on one
of the smallest toys takes some hundreds."""
ALONE, ENOUGH, PAIRS, HALF = 0.7, 0.25, 0.8, 0.5
"""The parts of the time left in which one row is followed then, on toys that are telling and on others, and two rows of
a call, also where samples would answer in a little more; the rest is sampled."""
THREE = 1_000
"""Most worlds of three rows."""
SEQUENCES = 1 << 20
"""Most sequences of all rows together whose law is written down."""
NONE_KEPT = (
    "what follows a draft that was kept: as in plain decoding, no call made more tokens than passes of the target"
)
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
    exact: bool | None = None,
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
        target: instead of a suite, one target in words: see `sampler_target.one_target`.
        exact: True for every possible run of the sampler alone (see `sampler_exact.prove_sampler`; rates and seed
            then play no part), False for samples of it alone; by default both.
        name: what to call it.
        reproducible: whether the same seed must give the same sequences. If not, that is not asked, and nothing is
            followed.

    Raises:
        InputError: for rates, a delta or a suite that cannot be used, and for a sampler that is told to draw from
            another law than the target's.
    """
    check_rates(alpha, beta)
    prepare(sample, claim)
    aim, slack = aims(delta, 0.01)
    if not seconds > 0:
        raise InputError(f"seconds is {seconds}; give the calls some time")
    given = {"suite": suite, "toy": toy, "target": target}
    check({what: value for what, value in given.items() if value is not None})
    suite = suite if (alone := toy or target) is None else (one_target(alone),)
    clock = Deadline(seconds)
    prove = partial(prove_sampler, sample, claim, suite=suite, name=name, whole=seconds)
    if exact:
        followed = prove(seconds=seconds, enough=EXACT * seconds)
        as_long = min(1.0, max(seconds - clock.left, PART * seconds) / max(clock.left, 1e-9))
        return _remarked(in_calls(followed, _pairs(prove, followed, clock, as_long)), sample)
    only = exact is False or not reproducible
    asked = Asked(
        name or name_of(sample), claim, seed, delta, aim, slack, alpha, beta, seconds, suite, 1.0 if only else SAMPLED
    )
    sampling = Sampling(sample, asked, reproducible)
    share, few = Deadline(asked.share * seconds), 0.0 if only else FEW / ((1 - SAMPLED) * seconds)
    if not sampling.begin(share, few) and not only:
        # Samples cannot answer in time, so what can be followed comes first.
        before = time.process_time()
        followed = prove(seconds=ALONE * clock.left, enough=ENOUGH * clock.left)
        slow = any(0 < one.speed < few for one in sampling.series)
        two = _pairs(prove, followed, clock, PAIRS if slow else HALF)
        sampling.start += time.process_time() - before
        if Kind.REFUTED not in (followed.verdict.kind, two and two.verdict.kind):
            sampling.begin(clock)
            sampling.go_on(clock)
        return _remarked(together(sampling.judgement(clock), sampling.whole, followed, two, sample, asked), sample)
    sampling.go_on(share)
    found = sampling.judgement(share)
    if only or found.verdict.kind not in TO_FOLLOW:
        return _remarked(found, sample)
    followed = prove(seconds=MOST * clock.left, enough=FOLLOWED * seconds)
    enough = found.verdict.kind is Kind.CONSISTENT and sampling.whole
    two = None if enough else _pairs(prove, followed, clock, 1.0)
    return _remarked(together(found, sampling.whole, followed, two, sample, asked), sample)


def _remarked(found: Judgement, sample: Sampler) -> Judgement:
    """A judgement with what a sampler noticed itself: `remarks` where it is refuted, and else what it `leaves` out, and
    whether calls took `fewer` passes than tokens, where it tells."""
    if found.verdict.kind is Kind.REFUTED:
        return replace(found, notes=(*found.notes, *getattr(sample, "remarks", ())))
    found = replace(found, not_covered=tuple(dict.fromkeys((*getattr(sample, "leaves", ()), *found.not_covered))))
    if found.verdict.kind is Kind.ERROR or getattr(sample, "fewer", None) != []:
        return found
    return replace(found, not_covered=(NONE_KEPT, *found.not_covered))


def _pairs(prove: partial[Judgement], followed: Judgement, clock: Deadline, share: float) -> Judgement | None:
    """Calls for two rows on toys on which one is right, and on which one may fall behind the other: those of three
    tokens and with the fewest worlds first, of which two rows have as many for each of the other's. Then, where they
    are few, calls for three rows. None if there is none."""
    cases = {case.name: case for case in chosen(prove.keywords["suite"], prove.args[1], "smallest")}
    two_tokens = {name for name, case in cases.items() if case.target.vocab < 3 and not case.guided}
    right = sorted(followed.exact, key=lambda row: (row["model"] in two_tokens, int(row["worlds"])))

    def found(rows: int, most: int) -> list[Case]:
        return [
            cases[row["model"]]
            for row in right
            if row["worlds"] ** rows <= most
            and row["sequences"] ** rows <= SEQUENCES
            and (rows > 2 or cases[row["model"]].target.length > 1)
        ]

    if followed.verdict.kind is not Kind.PROVED or not found(2, BUDGET):
        return None
    two = prove(seconds=share * clock.left, suite=found(2, BUDGET), rows=2)
    if two.verdict.kind is not Kind.PROVED:
        return two
    said, seconds = two.verdict.reason, two.seconds
    if few := found(3, THREE):
        three = prove(seconds=share * clock.left, suite=few, rows=3)
        if three.verdict.kind is Kind.REFUTED:
            return three
        said += "; so are three" if three.verdict.kind is Kind.PROVED else ""
        seconds += three.seconds
    said += "" if any(cases[row["model"]].guided for row in two.exact) else "; none of these is guided"
    return replace(two, verdict=Verdict(Kind.PROVED, said), seconds=seconds)


class Sampling:
    """A sampler that is being sampled: the small and the first calls on every toy, then all that it takes.

    Args:
        sample: the sampler.
        asked: what was asked for.
        reproducible: whether the same seed must give the same sequences.
    """

    def __init__(self, sample: Sampler, asked: Asked, reproducible: bool) -> None:
        self.asked, self.reproducible, self.start = asked, reproducible, time.process_time()
        cases = chosen(asked.suite, asked.claim, "standard")
        base = derived_seed(asked.seed) % 2**30

        def generator(number: int) -> np.random.Generator:
            return np.random.default_rng(derived_seed(asked.seed, number))

        self.batches = Batches(generator(len(cases)))
        self.series = [
            Series(sample, case, asked.claim, base + number * 2**16, generator(number), self.batches)
            for number, case in enumerate(cases)
        ]
        budget = AlphaBudget(asked.alpha)
        shares = {f"{one.case.name}: {check}": weight for one in self.series for check, weight in one.checks.items()}
        budget.allocate(shares | dict.fromkeys(GROUPS, 1.0))
        self.batches.rates = {group: budget.spend(group) for group in GROUPS}
        for one in self.series:
            rates = {check: budget.spend(f"{one.case.name}: {check}") for check in one.checks}
            one.plan(rates, asked.aim, asked.beta, asked.share * asked.seconds, asked.slack)
        self._again: Series | None = None

    @property
    def refuted(self) -> bool:
        """Whether some call refuted it."""
        return self.batches.refuted or any(one.refuted for one in self.series)

    @property
    def begun(self) -> bool:
        """Whether the small and the first calls of every toy were made, as far as there was time."""
        return all(one.calls or one.error for one in self.series)

    @property
    def whole(self) -> bool:
        """Whether every toy was sampled as planned, or would have been."""
        return not any(one.left for one in self.series)

    def begin(self, deadline: Deadline, least: float = 0.0) -> bool:
        """Make the small and the first calls of every toy; whether there is time, or need, for an answer by more.

        A sampler that gives fewer sequences a second than the least is left after the small calls on one toy. Where it
        is begun with again, the other toys are made up for.
        """
        smallest = sorted(self.series, key=lambda one: one.possible)
        open_ones = [one for one in smallest if one.possible > 1]
        deep = [*open_ones[: DEEP - 1], *open_ones[DEEP - 1 :][-1:]]
        for one in smallest:
            if not one.calls:
                one.play(one in deep, deadline)
                if not one.error and 0 < one.speed < least:
                    return False
            if not one.first:
                one.advance(deadline)
            if one.refuted:
                break
            if self.reproducible and self._again is None and one.repeatable:
                self._again = one
                one.repeat("gives other sequences when it is called twice with the same seed")
        if self.reproducible and not self.refuted:
            smallest[-1].tell_seeds_apart()
        if self.refuted or any(one.error for one in self.series):
            return True
        return sum(one.takes for one in self._affordable(deadline)) <= deadline.left

    def go_on(self, deadline: Deadline) -> None:
        """Call it for whichever toy is furthest behind, until one is refuted, all are done or the time is over.

        Where there is no time for an answer on all toys, some are left there.
        """
        kept = self._affordable(deadline)
        for one in self.series:
            one.left = one not in kept
        while not self.refuted and not deadline.over:
            behind = min(kept, key=lambda one: one.progress)
            if behind.progress >= 1:
                break
            behind.advance(deadline)

    def judgement(self, deadline: Deadline) -> Judgement:
        """All checks on what was drawn; where it is wrong is looked for until the deadline."""
        if self._again is not None and not self._again.error and not self.refuted:
            self._again.repeat(
                "gives other sequences for a seed after other calls than before them: state leaks between calls"
            )
        for one in self.series:
            one.settle(deadline)
        return judgement(self.series, self.batches, self.asked, time.process_time() - self.start)

    def _affordable(self, deadline: Deadline) -> Sequence[Series]:
        return affordable(self.series, SURE * deadline.left, self.asked.slack == 1)


def affordable(series: Sequence[Series], seconds: float, all_of_them: bool) -> Sequence[Series]:
    """The cases on which so many seconds lead to an answer: of those on which three tokens can come the one that takes
    least, without which there is none, and then the others, from the one on that takes least.

    Args:
        series: all, of which the first calls were made.
        seconds: of the processor.
        all_of_them: whether nothing less is an answer.
    """
    kept: list[Series] = []
    quick = sorted(series, key=lambda one: one.takes)
    telling = next((one for one in quick if one.choices > 2), None)
    for one in sorted(quick, key=lambda one: one is not telling):
        seconds -= one.takes
        if kept and seconds < 0 and not all_of_them:
            break
        kept.append(one)
    return kept
