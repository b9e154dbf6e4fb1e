"""Judging a decoder: proved on the toys, or refuted by the smallest counterexample that a search finds.

In this order, so that a wrong decoder hears soon:

1.  It is made and run, to see what it takes (`modes.py`), and enumerated on tiny models.
2.  The same must come a second time, one row at a time, and among rows of other lengths: a row's outcome may depend on
    nothing but its own arguments.
3.  It is enumerated on every toy that it takes, the cheap ones first, in several windows.
4.  A search draws models, for a case that nobody thought of.

Whatever breaks its claim in 1 to 3 is handed to a search to be made small.
"""

from __future__ import annotations

import shlex
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from specverify.claims import Claim, ClusterLossless, Lossless, Relaxed
from specverify.errors import BudgetError, ContractError, InputError, SpecverifyError
from specverify.evidence.arrange import ARRANGEMENTS
from specverify.evidence.cases import Case
from specverify.evidence.enumerate import Budget
from specverify.evidence.search import SMALL, Counterexample, Outcome, evaluate, explain, guarded, search
from specverify.subjects.certificate import certificate
from specverify.subjects.describe import describe, headline
from specverify.subjects.factory import Factory, as_factory
from specverify.subjects.judgement import Judgement
from specverify.subjects.modes import Mode, find_modes, own_claim
from specverify.subjects.resolve import claim_text
from specverify.subjects.suite import label, suite
from specverify.verdict import EXACT_TOLERANCE, Coverage, Kind, Verdict

_NO_DIM = "has no attribute 'dim'"
EXAMPLES = 300
"""Cases that are drawn before a decoder is taken to be right."""
SHRINKING = 400
"""Cases that are drawn, at most, to find a small counterexample to what is known to be wrong."""


def judge_decoder(
    subject: Any,
    claim: Claim | None = None,
    *,
    name: str | None = None,
    seed: int = 0,
    seconds: float = 60.0,
    budget: Budget = SMALL,
    examples: int = EXAMPLES,
    toys: Sequence[str] | None = None,
) -> Judgement:
    """Prove or refute what a decoder claims.

    Args:
        subject: a decoder, what makes one, or a reference to one of these (see `factory.as_factory`).
        claim: what it claims; by default what it says of itself in `claim`, else that it is lossless.

    Other arguments:
        name: how to call it.
        seed: of the search.
        seconds: when to stop; what was left out by then is listed as not covered.
        budget: of each enumeration; what is larger is listed as not covered.
        examples: how many cases are drawn before the decoder is taken to be right.
        toys: by name, those to prove it on; by default all that suit.

    Returns:
        PROVED, REFUTED with a certificate, VACUOUS if no draft was ever rejected, or ERROR with the reason.

    Raises:
        InputError: the subject is no decoder and makes none, or the claim is none.
    """
    if claim is not None and not isinstance(claim, Lossless | ClusterLossless | Relaxed):
        raise InputError(f"{claim!r} is no claim; choose Lossless(), Relaxed(tv) or ClusterLossless(partition)")
    factory = as_factory(subject, name)
    plan = _Plan(seed, time.monotonic() + seconds, budget, examples, None if toys is None else tuple(toys))
    return _Judge(factory, claim or own_claim(factory), plan).judge()


@dataclass(frozen=True)
class _Plan:
    """How much is done; `deadline` on the monotonic clock."""

    seed: int
    deadline: float
    budget: Budget
    examples: int
    toys: tuple[str, ...] | None


class _Reached(Exception):
    """The judgement is reached: a verdict, and its counterexample."""

    def __init__(self, verdict: Verdict, counterexample: Counterexample) -> None:
        super().__init__(verdict.reason)
        self.verdict, self.counterexample = verdict, counterexample


class _Judge:
    """One judgement under way."""

    def __init__(self, factory: Factory, claim: Claim, plan: _Plan) -> None:
        self.factory, self.claim, self.plan, self.budget = factory, claim, plan, plan.budget
        self.outcomes: list[Outcome] = []
        self.missed: defaultdict[str, list[str]] = defaultdict(list)

    def judge(self) -> Judgement:
        start = time.monotonic()
        found: Counterexample | None = None
        try:
            verdict = self._prove()
        except _Reached as reached:
            verdict, found = reached.verdict, reached.counterexample
        except SpecverifyError as error:
            vectors = "; decoders of models over vectors are judged at level continuous"
            verdict = Verdict(Kind.ERROR, f"{error}{vectors if _NO_DIM in str(error) else ''}")
        named, text = shlex.quote(self.factory.reference or self.factory.name), claim_text(self.claim)
        return Judgement(
            subject=self.factory.name,
            level="decoder",
            claim=str(self.claim),
            verdict=verdict,
            exact=tuple(outcome.row() for outcome in self.outcomes),
            location=None if found is None or found.location is None else found.location.to_json(),
            certificate=None
            if found is None
            else certificate(found, name=self.factory.name, subject=self.factory.reference),
            not_covered=tuple(f"{', '.join(what)}: {why}" for why, what in self.missed.items()),
            reproduce=f"specverify validate {named} --claim {shlex.quote(text)} --seed {self.plan.seed}",
            seconds=time.monotonic() - start,
            notes=() if found is None else (describe(found),),
        )

    def _prove(self) -> Verdict:
        modes = find_modes(self.factory, self.claim, self.budget, self.plan.seed)
        if any(mode.races for mode in modes):
            self.missed["it draws by races, which can be enumerated for two tokens only"].append("larger vocabularies")
        if "window" not in self.factory.takes:
            self.missed["it comes with its own"].append("other windows")
        ends = [(mode, model) for mode in modes for model in dict.fromkeys((mode.tiny[0], mode.tiny[-1]))]
        for mode, model in ends:
            self._check(mode, mode.case(model))
        for mode, model in ends:
            self._audit(mode, mode.case(model))
        for mode, case in suite(modes, self.claim, self.plan.toys):
            if time.monotonic() > self.plan.deadline:
                self.missed["time ran out"].append(label(case))
            else:
                self._check(mode, case)
        tried = self._hunt(modes)
        exact = [outcome.exact for outcome in self.outcomes]
        coverage = Coverage(
            any(mode.shown for mode in modes) or any(e.verified > 0 for e in exact),
            sum(e.verified for e in exact),
            sum(e.accepted for e in exact),
            sum(e.branches["recovered"] for e in exact),
        )
        if (gap := coverage.gap()) and not isinstance(self.claim, Relaxed):
            return Verdict(Kind.VACUOUS, gap)
        worst = max(outcome.tv for outcome in self.outcomes)
        models = len({outcome.case.model for outcome in self.outcomes})
        return Verdict(
            Kind.PROVED,
            f"exact TV at most {worst:.2g} from the target on {models} models in {len(exact)} settings; no "
            f"counterexample among {tried} drawn cases",
        )

    def _check(self, mode: Mode, case: Case) -> None:
        """Enumerate one setting; if it breaks the claim, or the decoder breaks down, that is the judgement."""
        try:
            outcome = evaluate(self.factory.build, case, self.claim, self.budget, EXACT_TOLERANCE)
        except InputError as error:
            self.missed[f"it says {error}"].append(label(case))
        except BudgetError:
            self.missed[f"more than {self.budget.worlds:,} worlds"].append(label(case))
        except ContractError as error:
            self._broken(mode, case, error)
        else:
            if outcome.fails:
                self._refuted(mode, case)
            if outcome.breach:
                self._broken(mode, case, ContractError(outcome.breach))
            self.outcomes.append(outcome)

    def _audit(self, mode: Mode, case: Case) -> None:
        """The same law and figures must come a second time, and however the rows are arranged."""
        decoder = guarded(self.factory.build, case.settings(case.target())).decoder

        def outcome(arranged: Case) -> Outcome:
            return evaluate(lambda settings: decoder, arranged, self.claim, self.budget, EXACT_TOLERANCE)

        once, again = outcome(case), outcome(case)
        if _differ(once, again):
            raise ContractError(
                f"enumerated twice on {label(case)} it gave two results, {_apart(once, again)}: it keeps state between "
                "calls, or has randomness of its own; what it keeps belongs to the state, and all randomness comes "
                "from `draws`"
            )
        for arrangement in ARRANGEMENTS[1:]:
            arranged = replace(case, arrangement=arrangement)
            how = "alone" if arrangement == "alone" else "among rows of other lengths"
            try:
                other = outcome(arranged)
            except ContractError as error:
                raise ContractError(f"it cannot run rows {how}: {error}") from error
            if _differ(once, other):
                reason = (
                    f"its rows influence each other: on {label(case)}, {how} they give another result, "
                    f"{_apart(once, other)}"
                )
                if other.fails:
                    self._refuted(mode, arranged, reason)
                raise ContractError(f"{reason}; what a row does must depend on that row alone")

    def _hunt(self, modes: Sequence[Mode]) -> int:
        """Search all modes; how many cases were tried."""
        tried = 0
        for mode in modes:
            result = search(
                self.factory.build,
                mode.space(self.claim),
                self.claim,
                seed=self.plan.seed,
                examples=max(1, self.plan.examples // len(modes)),
                seconds=max(0.0, self.plan.deadline - time.monotonic()),
                budget=self.budget,
                tolerance=EXACT_TOLERANCE,
            )
            tried += result.tried
            if not result.complete:
                self.missed["time ran out"].append("part of the search")
            if result.counterexample is not None:
                self._conclude(result.counterexample)
        return tried

    def _refuted(self, mode: Mode, case: Case, reason: str = "") -> None:
        """Conclude with the smallest counterexample like this case."""
        found = self._smallest(mode, case, "law") or explain(
            self.factory.build, case, self.claim, self.budget, EXACT_TOLERANCE
        )
        if isinstance(found, Outcome):
            raise ContractError(f"on {label(case)} it broke its claim once and not again: it keeps state between calls")
        self._conclude(found, reason)

    def _broken(self, mode: Mode, case: Case, error: ContractError) -> None:
        """Conclude with the smallest case in which the decoder breaks down."""
        found = self._smallest(mode, case, "error")
        if found is None:
            raise ContractError(f"{error}; on {label(case)}") from error
        self._conclude(found)

    def _smallest(self, mode: Mode, case: Case, problem: str) -> Counterexample | None:
        space = replace(mode.space(self.claim), processors=("",), arrangements=(case.arrangement,))
        if case.initial is not None:
            space = replace(space, initials=(case.initial,))
        return search(
            self.factory.build,
            space,
            self.claim,
            seed=self.plan.seed,
            examples=SHRINKING,
            seconds=max(5.0, min(20.0, self.plan.deadline - time.monotonic())),
            budget=self.budget,
            tolerance=EXACT_TOLERANCE,
            problems=(problem,),
        ).counterexample

    def _conclude(self, found: Counterexample, reason: str = "") -> None:
        if found.outcome is None:
            raise _Reached(Verdict(Kind.ERROR, headline(found)), found)
        self.outcomes.append(found.outcome)
        reason = reason or self._company(found)
        raise _Reached(Verdict(Kind.REFUTED, headline(found) + (f" ({reason})" if reason else "")), found)

    def _company(self, found: Counterexample) -> str:
        """Whether the rows of a refuted decoder are wrong only because of each other."""
        case = replace(found.case, arrangement="alone")
        try:
            alone = evaluate(self.factory.build, case, self.claim, Budget(2_000), EXACT_TOLERANCE)
        except (ContractError, BudgetError, InputError):
            return ""
        return "" if alone.fails else "its rows influence each other: one row at a time it is right"


def _differ(one: Outcome, other: Outcome) -> bool:
    def figures(outcome: Outcome) -> list[float]:
        exact = outcome.exact
        return [exact.passes, exact.verified, exact.accepted, exact.draft_passes, *exact.branches.values()]

    gap = max(abs(a - b) for a, b in zip(figures(one), figures(other), strict=True))
    return one.exact.tv(other.exact.law) > EXACT_TOLERANCE or gap > 1e-9


def _apart(one: Outcome, other: Outcome) -> str:
    return f"TV {one.exact.tv(other.exact.law):.3g} apart, {one.exact.passes:.6g} and {other.exact.passes:.6g} passes"
