"""The smallest counterexample like a case that is wrong, and how far off a decoder can be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from specverify.claims import Claim
from specverify.deadline import Deadline
from specverify.errors import BudgetError, ContractError, DependentRowsError, InputError
from specverify.evidence.budget import Budget
from specverify.evidence.cases import Case, Weights
from specverify.evidence.farthest import farthest
from specverify.evidence.found import Counterexample, Outcome
from specverify.evidence.result import Evidence
from specverify.evidence.search import Search, evaluate, explain, problem_of, search
from specverify.evidence.smaller import smaller
from specverify.subjects.cache import breaches
from specverify.subjects.describe import headline
from specverify.subjects.factory import Factory
from specverify.subjects.modes import Mode
from specverify.subjects.suite import label
from specverify.verdict import Kind, Verdict

SHRINKING = 400
"""Cases that are drawn, at most, to find a small counterexample to what is known to be wrong."""
FEW = 100
"""Cases that are drawn of each of the shorter lengths before."""
CLIMB, STRETCH = 20, 160
"""Cases that are tried to see how far off a decoder can be: a refuted one, and a relaxed one."""
SHORT = 6
"""Longest sequences of the former, shorter than those that are searched: it is but a word beside a refutation."""
LEAST, MOST = 5.0, 20.0
"""Seconds of the processor in which it is looked what a cache would hold, however many are left."""
FEWER = 16
"""Cases, cheapest first, of a decoder whose every world has to be a batch of its own."""
ALONE = 400
"""Worlds of an enumeration where every world is a batch of its own, which takes a millisecond or two for each."""
COMPANY = 5.0
"""Seconds of the one that tells whether it is its company that makes a row wrong."""
DRAWN = Budget(worlds=15_000)
"""Of each drawn case."""


@dataclass(frozen=True)
class Plan:
    """How much is done; `due` is a toy or a model without which nothing is proved."""

    seed: int
    deadline: Deadline
    budget: Budget
    examples: int
    toys: tuple[str, ...] | None
    due: str | Weights | None = None


class Reached(Exception):
    """The judgement is reached: a verdict, and its counterexample."""

    def __init__(self, verdict: Verdict, counterexample: Counterexample | None = None) -> None:
        super().__init__(verdict.reason)
        self.verdict, self.counterexample = verdict, counterexample


class Refuting:
    """What is known of a decoder under judgement, and how a refutation is concluded.

    Attributes:
        factory, claim, plan, budget: what is judged, and how much is done.
        precision: that the decoder computes in, as far as its law shows.
        dependence: how its rows depend on each other; empty if they do not.
        outcomes: enumerations so far.
        widest: cases to begin with where the largest distance is looked for.
        evidence, larger: of samples; those over more than two tokens.
        missed: what is not covered, by the reason.
    """

    def __init__(self, factory: Factory, claim: Claim, plan: Plan) -> None:
        self.factory, self.claim, self.plan, self.budget = factory, claim, plan, plan.budget
        self.precision = torch.float64
        self.dependence, self.own_path = "", False
        self.outcomes: list[Outcome] = []
        self.widest: list[Case] = []
        self.evidence: list[Evidence] = []
        self.larger: list[Evidence] = []
        self.missed: defaultdict[str, list[str]] = defaultdict(list)

    def evaluate(self, case: Case) -> Outcome:
        """One enumeration, held against the claim."""
        return evaluate(self.factory.build, case, self.claim, self.budget, self.precision)

    def search(self, mode: Mode, examples: int, **narrower: Any) -> Search:
        """Draw cases of a mode, from a narrower space."""
        problems = narrower.pop("problems", ("law", "error"))
        deadline = narrower.pop("deadline", self.plan.deadline)
        return search(
            self.factory.build,
            replace(mode.space(self.claim), **narrower),
            self.claim,
            seed=self.plan.seed,
            examples=examples,
            deadline=deadline,
            budget=Budget(min(self.budget.worlds, DRAWN.worlds)),
            precision=self.precision,
            problems=problems,
        )

    def farthest(self, mode: Mode, examples: int, deadline: Deadline, far: int | None = None) -> Outcome | None:
        """The outcome of largest distance that a climb comes to, in sequences of two tokens up to `far`."""
        begin = [case for case in self.widest if (case.draft is not None) == mode.drafts]
        space = mode.space(self.claim)
        found = farthest(
            self.factory.build,
            space if far is None else replace(space, far=far),
            self.claim,
            begin,
            seed=self.plan.seed,
            examples=examples,
            deadline=deadline,
            budget=Budget(min(self.budget.worlds, DRAWN.worlds)),
            precision=self.precision,
        )
        return found.outcome

    def refuted(self, mode: Mode, case: Case, reason: str = "") -> None:
        """Conclude with the smallest counterexample like this case."""
        found = self._smallest(mode, case, "law") or explain(
            self.factory.build, case, self.claim, replace(self.budget, deadline=None), self.precision
        )
        if isinstance(found, Outcome):
            raise ContractError(f"on {label(case)} it broke its claim once and not again: it keeps state between calls")
        self.widest.insert(0, case)
        self.conclude(mode, found, reason)

    def look_at_caches(self, modes: Sequence[Mode], slow: bool) -> None:
        """Run it on toys with a cache, which would not hold what no pass has shown.

        Raises:
            ContractError: it would not hold what is committed.
        """
        deadline = Deadline(max(LEAST, min(MOST, self.plan.deadline.left)))
        for what, why in breaches(self.factory, modes, self.plan.seed, slow, deadline):
            if not why:
                raise ContractError(what)
            self.missed[why].append(what)

    def broken(self, mode: Mode, case: Case, error: ContractError) -> None:
        """Conclude with the smallest case in which the decoder breaks down."""
        found = self._smallest(mode, case, "error")
        if found is None:
            raise ContractError(f"{error}; on {label(case)}") from error
        self.conclude(mode, found)

    def _smallest(self, mode: Mode, case: Case, problem: str) -> Counterexample | None:
        # Also when the time is over a counterexample is made small.
        deadline = Deadline(max(5.0, min(15.0, self.plan.deadline.left)))
        budget = Budget(min(self.budget.worlds, DRAWN.worlds), deadline=deadline, pace=self.budget.pace)

        def fails(simpler: Case) -> bool:
            found, _ = problem_of(self.factory.build, simpler, self.claim, budget, self.precision)
            return not deadline.over and found == problem

        space = mode.space(self.claim)
        small = smaller(case, space, fails)
        if small is not None and small.target().length <= space.length[1]:
            self.widest.append(small)
            found = explain(self.factory.build, small, self.claim, self.budget, self.precision)
            return found if isinstance(found, Counterexample) and found.problem == problem else None
        processors = tuple(dict.fromkeys(("", getattr(case.model, "processors", ""))))
        narrowed = partial(
            self.search, mode, SHRINKING, deadline=deadline, arrangements=(case.arrangement,), problems=(problem,),
            processors=processors,
        )  # fmt: skip
        if case.precision != "float64":
            narrowed = partial(narrowed, precisions=(case.precision,))
        if case.initial is not None:
            narrowed = partial(narrowed, initials=(case.initial,))
        drawn = narrowed()
        self.widest += drawn.widest
        return drawn.counterexample

    def conclude(self, mode: Mode, found: Counterexample, reason: str = "") -> None:
        """Reach the verdict that a counterexample bears."""
        if found.outcome is None:
            raise Reached(Verdict(Kind.ERROR, headline(found)), found)
        if found.case.arrangement != "alone" and self._right_alone(found.case):
            # The rows of an enumeration are worlds of one row, which in no real batch stand beside each other.
            raise DependentRowsError(
                f"on {label(found.case)}, where its law is another among other rows, it is right one row at a time"
            )
        farther = self.farthest(mode, CLIMB, Deadline(10.0), SHORT)
        largest = max([*self.outcomes, found.outcome, *([farther] if farther else [])], key=lambda o: o.tv)
        found = replace(found, largest=largest)
        self.outcomes.append(found.outcome)  # type: ignore[arg-type]
        raise Reached(Verdict(Kind.REFUTED, headline(found) + (f" ({reason})" if reason else "")), found)

    def _right_alone(self, case: Case) -> bool:
        """Whether a decoder that is wrong in a case is right where each row runs alone."""
        budget = Budget(ALONE, deadline=Deadline(COMPANY), pace=self.budget.pace)
        try:
            alone = evaluate(self.factory.build, replace(case, arrangement="alone"), self.claim, budget, self.precision)
        except (ContractError, BudgetError, InputError):
            return False
        return not alone.fails
