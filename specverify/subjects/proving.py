"""Judging a decoder of ids: proved if it is right, refuted by the smallest counterexample that a search finds.

In this order, so that a wrong decoder hears soon:

1.  It is made and run, to see what it takes (`modes.py`), and enumerated on tiny models.
2.  The same must come a second time, one row at a time, and among rows of other lengths: a row's outcome may depend on
    nothing but its own arguments.
3.  It is enumerated on every model that it takes, the cheap ones first, in many windows (`suite.py`). Only then, since
    it takes seconds, are rows in batches of many sizes held against the same rows alone.
4.  A search draws models, for a case that nobody thought of; of a relaxed decoder, for the case that is farthest off.
5.  It is sampled as it is, without the guard and in batches of several sizes (`sampling.py`); on toys that have a cache
    of keys and values, it is looked whether that would hold what it commits (`cache.py`).
6.  If it is lossless so far, it is tried to prove it for every law at once (`for_all.py`).

Whatever breaks its claim in 1 to 3 is handed to a search to be made small (`refuting.py`). What is said of all the rest
is in `finding.py`.
"""

from __future__ import annotations

import shlex
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import torch

from specverify.claims import Relaxed
from specverify.deadline import Deadline
from specverify.errors import BudgetError, ContractError, DependentRowsError, InputError, SpecverifyError
from specverify.evidence.arrange import ARRANGEMENTS
from specverify.evidence.bare import ROWS
from specverify.evidence.cases import Case
from specverify.evidence.exact.keeping import at_hand, changed
from specverify.evidence.found import Counterexample, Outcome
from specverify.evidence.relay import runs_torch
from specverify.evidence.rounding import floor
from specverify.evidence.search import evaluate, guarded
from specverify.subjects import proofs, sampling
from specverify.subjects.beside import beside, row_apart, without_guard
from specverify.subjects.certificate import certificate
from specverify.subjects.certificate_schema import Certificate
from specverify.subjects.describe import describe, listed
from specverify.subjects.finding import OWN_PATH, Findings, apart, differ, sampled_wrong
from specverify.subjects.for_all import ForAll, for_all
from specverify.subjects.judgement import Judgement
from specverify.subjects.modes import Mode, find_modes
from specverify.subjects.refuting import ALONE, FEWER, STRETCH, Reached, Refuting
from specverify.subjects.resolve import claim_text
from specverify.subjects.suite import label, nothing_to_cut, suite
from specverify.subjects.tokens import takes
from specverify.verdict import Kind, Verdict

_OF_VECTORS = ("has no attribute 'dim'", "judges no ids")
"""What a decoder of vectors says to a model of ids."""
AT_LEAST = 10.0
"""Seconds that may go by, however few are left, on what no verdict comes without: tiny models, twice, and samples."""
FOLLOWED = 0.35
"""Share of the time in which somebody's Python is followed on models by name, and half as much again on drawn ones: it
is slow, and what it does as it runs is seen by samples alone."""
AS_FOLLOWED = 512
"""Sequences that such a decoder must give with and without the guard, which its Python cannot tell apart."""


class OfVectors(Exception):
    """It takes no models over ids."""


class Proving(Refuting):
    """One judgement under way."""

    for_all = ForAll(())
    slow, keeps = False, ""

    def judge(self) -> Judgement:
        """The judgement.

        Raises:
            OfVectors: the decoder takes no models over ids, and either takes those over vectors or asks for them.
        """
        start = time.monotonic()
        found: Counterexample | None = None
        try:
            verdict = self._judged()
        except Reached as reached:
            verdict, found = reached.verdict, reached.counterexample
        except SpecverifyError as error:
            late = isinstance(error, BudgetError) and self._late
            verdict = Verdict(Kind.INCONCLUSIVE if late else Kind.ERROR, str(error))
        named, text = shlex.quote(self.factory.reference or self.factory.name), claim_text(self.claim)
        return Judgement(
            subject=self.factory.name,
            level="decoder",
            claim=str(self.claim),
            verdict=verdict,
            evidence=tuple(self.evidence),
            exact=tuple(outcome.row() for outcome in self.outcomes),
            location=None if found is None or found.location is None else found.location.to_json(),
            certificate=self._certificate(found),
            not_covered=tuple(f"{listed(what)}: {why}" for why, what in self.missed.items()),
            reproduce=f"specverify validate {named} --claim {shlex.quote(text)} --seed {self.plan.seed}",
            seconds=time.monotonic() - start,
            notes=() if found is None else (describe(found),),
        )

    @property
    def _late(self) -> bool:
        return self.budget.deadline is not None and self.budget.deadline.over

    def _certificate(self, found: Counterexample | None) -> Certificate | proofs.Proved | None:
        name, subject = self.factory.name, self.factory.reference
        if found is not None:
            return certificate(found, name=name, subject=subject)
        return proofs.certificate(self.for_all, name=name, subject=subject) if self.for_all.proved else None

    def _judged(self) -> Verdict:
        try:
            modes = find_modes(self.factory, self.claim, self.budget, self.plan.seed)
        except SpecverifyError as error:
            asks = any(said in str(error) for said in _OF_VECTORS)
            if not takes(self.factory, "ids") and (asks or takes(self.factory, "vectors")):
                raise OfVectors from error
            raise
        tiny = modes[0].case(modes[0].tiny[0])
        self.slow = runs_torch(self.factory.build(tiny.settings(tiny.target())))
        self.dependence = next((mode.dependence.partition(", or ")[0] for mode in modes if mode.dependence), "")
        try:
            return self._prove(modes)
        except DependentRowsError as error:
            # Nothing that was found among other rows counts: once more, one row at a time.
            self.dependence = str(error).partition(", or ")[0]
            self.outcomes, self.widest, self.missed = [], [], defaultdict(list)
            self.evidence, self.larger = [], []
            return self._prove([replace(mode, arrangement="alone") for mode in modes])

    def _prove(self, modes: Sequence[Mode]) -> Verdict:
        if any(mode.races for mode in modes):
            self.missed["it draws by races, which can be enumerated for two tokens only"].append("larger vocabularies")
        if "window" not in self.factory.takes:
            self.missed["it comes with its own"].append("other windows")
        for mode in modes:
            for setting in mode.refused:
                what, _, why = setting.partition(": ")
                self.missed[why].append(what)
        shorter = self.plan.deadline.left * FOLLOWED
        if self.slow:
            self.plan = replace(self.plan, deadline=Deadline(shorter))
            self.budget = replace(self.budget, deadline=Deadline(max(AT_LEAST, shorter)))
        if self.dependence:
            self.budget = replace(self.budget, worlds=ALONE)
            self.missed["its rows depend on each other, so that batches are sampled, and not proved"].append(
                "batches of other sizes, and rows by themselves in batches of more than 12"
            )
        ends = [(mode, model) for mode in modes for model in mode.ends()]
        self.precision = self._precision([mode.case(model) for mode, model in ends], modes)
        for mode, model in ends:
            self._check(mode, mode.case(model))
        if self.dependence:
            self._sample(modes)  # what counts most, first
        else:
            for mode, model in ends:
                self._audit(mode, mode.case(model))
        if self.plan.due is not None:  # also when the time is over: no verdict comes without it
            self.budget = replace(self.budget, deadline=Deadline(max(AT_LEAST, self.plan.deadline.left)))
        for number, (mode, case) in enumerate(suite(modes, self.claim, self.plan.toys, self.plan.due)):
            if self.dependence and number >= FEWER:
                self.missed["its rows depend on each other, so that each world has to run alone"].append(label(case))
            elif self.plan.deadline.over and case.model != self.plan.due:
                self.missed["time ran out"].append(label(case))
            else:
                self._check(mode, case)
        if not self.dependence:
            self._beside(modes)
        if self.plan.due is not None and all(outcome.case.model != self.plan.due for outcome in self.outcomes):
            raise Reached(Verdict(Kind.INCONCLUSIVE, "what it was to be judged on could not be enumerated"))
        if self.slow:
            self.plan = replace(self.plan, deadline=Deadline(shorter / 2))
        tried = self._hunt(modes)
        if isinstance(self.claim, Relaxed):
            self._stretch(modes)
        if not self.dependence:
            self._sample(modes)
        self.look_at_caches(modes, self.slow)
        if not self.outcomes:
            within = "the time; give it more seconds" if self._late else f"{self.budget.worlds:,} worlds"
            raise BudgetError(f"no model could be enumerated within {within}")
        if nothing_to_cut(self.factory.processors, (outcome.case for outcome in self.outcomes)):
            why = f"{self.factory.processors} had nothing to cut on any model that could be enumerated"
            raise Reached(Verdict(Kind.INCONCLUSIVE, f"{why}; judge it with a smaller number, or for more seconds"))
        found, kept = (self.outcomes, self.evidence, self.larger), (self.dependence, self.own_path, self.keeps)
        findings = Findings(self.claim, *found, tried, self.precision, *kept)
        for line in findings.outside():
            what, _, why = line.partition(": ")
            self.missed[why].append(what)
        return self._beyond(findings, modes)

    def _beyond(self, findings: Findings, modes: Sequence[Mode]) -> Verdict:
        """The verdict once a proof for every law was tried, of a lossless decoder that was proved on named models."""
        verdict = findings.verdict(modes)
        if not findings.complete(verdict, modes):
            return verdict
        self.for_all = for_all(self.factory, modes, self.plan.seed, self.plan.deadline.left)
        rows = "a proof is of each row by itself; batches are looked at in some sizes, states and orders only"
        what = "every law at once" if self.for_all.why else "rows that depend on each other"
        self.missed = defaultdict(list, {self.for_all.why or rows: [what], **self.missed})  # said first
        return self.for_all.verdict(verdict)

    def _precision(self, cases: Sequence[Case], modes: Sequence[Mode]) -> torch.dtype:
        """The precision that explains how far off the decoder is on ordinary models: float64 if none does.

        A defect that shows on other models only is thus no rounding, however small.
        """
        if isinstance(self.claim, Relaxed):
            return torch.float64
        off = []
        for case in cases:
            try:
                outcome = evaluate(self.factory.build, case, self.claim, self.budget)
            except (InputError, BudgetError, ContractError):
                continue
            off.append((outcome.tv, case.target().length))
            if outcome.tv > floor(torch.bfloat16, case.target().length):
                return torch.float64
        half = [x for x in (torch.float16, torch.bfloat16) if any(x in mode.seen for mode in modes)]
        for precision in (torch.float64, torch.float32, *half):
            if all(tv <= max(1e-12, floor(precision, length)) for tv, length in off):
                return precision
        return torch.float64

    def _check(self, mode: Mode, case: Case) -> None:
        """Enumerate one setting; if it breaks the claim, or the decoder breaks down, that is the judgement."""
        try:
            outcome = self.evaluate(case)
        except InputError as error:
            self.missed[f"it says {error}"].append(label(case))
        except BudgetError:
            why = "time ran out" if self._late else f"more than {self.budget.worlds:,} worlds"
            self.missed[why].append(label(case))
        except DependentRowsError:
            raise
        except ContractError as error:
            self.broken(mode, case, error)
        else:
            self.outcomes.append(outcome)
            if outcome.fails:
                self.refuted(mode, case)
            if outcome.breach:
                self.broken(mode, case, ContractError(outcome.breach))

    def _audit(self, mode: Mode, case: Case) -> None:
        """The same law and figures must come a second time, and however the rows are arranged."""
        decoder = guarded(self.factory.build, case.settings(case.target())).decoder

        # Also when the time is over: a decoder that gives another law the second time has none.
        budget = replace(self.budget, deadline=Deadline(max(AT_LEAST, self.plan.deadline.left)))

        def outcome(arranged: Case) -> Outcome:
            return evaluate(lambda settings: decoder, arranged, self.claim, budget, self.precision)

        once, before = outcome(case), at_hand(decoder)
        again = outcome(case)
        self.keeps = self.keeps or changed(before, at_hand(decoder))
        if differ(once, again):
            raise ContractError(
                f"enumerated twice on {label(case)} it gave two results, {apart(once, again)}: it keeps state between "
                "calls, or has randomness of its own; what it keeps belongs to the state, and all randomness comes "
                "from `draws`"
            )
        for arrangement in ARRANGEMENTS[1:]:
            arranged = replace(case, arrangement=arrangement)
            how = "alone" if arrangement == "alone" else "beside rows of other lengths or rows that are done"
            try:
                other = outcome(arranged)
            except DependentRowsError:
                raise
            except ContractError as error:
                raise ContractError(f"it cannot run rows {how}: {error}") from error
            if differ(once, other):
                if other.fails:
                    self.refuted(mode, arranged, f"only rows that run {how} come wrong")
                raise DependentRowsError(f"on {label(case)}, {how} they give another result, {apart(once, other)}")

    def _beside(self, modes: Sequence[Mode]) -> None:
        """Rows of batches of many sizes and kinds must do what they do alone with the same coins."""
        for mode in modes if not self.slow else ():
            if missed := beside(self.factory, mode, self.plan.seed):
                self.missed[missed].append("rows in batches of many sizes, beside the same rows alone")

    def _hunt(self, modes: Sequence[Mode]) -> int:
        """Search all modes; how many cases were tried."""
        tried = 0
        for mode in modes:
            result = self.search(mode, max(1, self.plan.examples // len(modes) // (20 if self.dependence else 1)))
            tried += result.tried
            self.widest += result.widest
            if not result.complete:
                self.missed["time ran out"].append("part of the search")
            if result.dependent is not None:
                self.evaluate(result.dependent)
            if result.counterexample is not None:
                self.conclude(mode, result.counterexample)
        return tried

    def _stretch(self, modes: Sequence[Mode]) -> None:
        """Look for the case in which a relaxed decoder is farthest off: that, too, must be within its bound."""
        for mode in modes:
            if self.plan.deadline.over:
                self.missed["time ran out"].append("the search for the largest distance")
            farther = self.farthest(mode, min(STRETCH, self.plan.examples), self.plan.deadline)
            if farther is not None:
                self.outcomes.append(farther)
                if farther.fails:
                    self.refuted(mode, farther.case)

    def _sample(self, modes: Sequence[Mode]) -> None:
        """Sample the decoder as it is; where that has another law than what was enumerated, that is the judgement."""
        # Also when the time is over: no proof is given of code that nobody has seen run.
        apart = row_apart(self.factory, () if self.slow else modes, self.plan.seed) if self.dependence else None
        tasks, late, deadline = [], list[str](), Deadline(max(AT_LEAST, self.plan.deadline.left))
        for mode in modes:
            for model in mode.ends():
                case = mode.case(model)
                rows = AS_FOLLOWED if self.slow else ROWS
                different, seen = without_guard(self.factory, case, self.plan.seed, rows, deadline)
                if seen < rows:
                    self.missed["time ran out"].append(f"more than {seen:,} sequences with and without the guard")
                if different and not self.own_path:
                    self.own_path = True
                    self.missed[different].append(OWN_PATH)
                if self.slow:
                    self.missed["it is followed where it is enumerated, and runs as it is where it is sampled"].append(
                        "what it does otherwise when it is not followed, but for what the samples see"
                    )
            tasks += sampling.tasks(mode, self.outcomes, self.claim, apart, self.plan.toys is None)
        deadline = Deadline(max(AT_LEAST, self.plan.deadline.left))
        for task, evidence in sampling.carry_out(self.factory, tasks, self.plan.seed, deadline):
            if evidence is None:
                late.append(f"samples of {task.name}")
            elif isinstance(evidence, InputError):
                self.missed[f"it says {evidence}"].append(f"samples of {task.name}")
            else:
                self.evidence.append(evidence)
                self.larger += [evidence] * (task.model.vocab > 2)
                if evidence.rejected:
                    raise Reached(sampled_wrong(self.claim, task, evidence, self.dependence))
        if late:
            self.missed["time ran out"] += late
            if not self.evidence:
                raise Reached(Verdict(Kind.INCONCLUSIVE, f"no {late[0]} were drawn in time; give it more seconds"))
