"""One judgement under way: in which order the checks come, and what they add up to."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import numpy as np
import torch

from specverify.claims import Lossless
from specverify.draws import Sampled, derived_seed
from specverify.evidence.design import AlphaBudget
from specverify.evidence.result import Evidence
from specverify.subjects.rounds import contract, forced, independence, locate
from specverify.subjects.rounds.contexts import build, vocabulary
from specverify.subjects.rounds.kernel import Kernel
from specverify.subjects.rounds.sampling import CERTAIN, trials
from specverify.verdict import Coverage, Kind, Verdict, combine, judge_evidence

COINS = ("dense", "near", "sparse target", "other support", "disjoint", "sharp")
FIRST_LOOK = 2048
"""Rows of each context at the first look; each look doubles them."""


class Session:
    """One judgement under way."""

    def __init__(
        self,
        kernel: Kernel,
        checks: Collection[str],
        gamma: int,
        seed: int,
        alpha: float,
        beta: float,
        delta: float,
        deadline: float,
        names: Collection[str] | None,
        by_rule: bool,
    ) -> None:
        self.kernel, self.gamma, self.seed, self.beta, self.deadline = kernel, gamma, seed, beta, deadline
        self.checks, self.names = checks, names
        self.trials = trials(kernel, gamma, delta, names, by_rule) if "laws" in checks else []
        self.streams = [stream for trial in self.trials for stream in trial.streams]
        self.budget = AlphaBudget(alpha)
        self.apart = independence.CHECKS if "independence" in checks else {}
        if sampled := [*(stream.check for stream in self.streams), *self.apart]:
            self.budget.allocate(sampled)
        self.alphas = {row["check"]: row["alpha"] for row in self.budget.table()}
        for trial in self.trials:
            trial.plan(self.alphas, beta)
        self.generator = contract.generator(derived_seed(seed, 6))
        self.draws = Sampled(derived_seed(seed, 7))
        self.tally = torch.zeros(4, dtype=torch.int64)
        self.evidence: list[Evidence] = []
        self.exact: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.location: dict[str, Any] | None = None
        self.certificate: dict[str, Any] | None = None

    def judge(self) -> Verdict:
        """The verdict; what it rests on is left in the session."""
        coins = "forced-coins" in self.checks and self.kernel.with_coins is not None
        dense = build(("dense",), vocabulary(self.gamma + 1), self.gamma + 1)
        contract.reproducible(self.kernel, dense, self.gamma, self.seed)
        if "nan-rows" in self.checks:
            self.notes.append(contract.refuses_or_survives_nan(self.kernel, dense, self.gamma, self.seed))
        places = self._places() if coins else []
        for where, certain in places:
            self.notes.append(forced.edges(self.kernel, where) + (", q = None" if certain else ""))
        verdicts: list[Verdict] = []
        if "independence" in self.checks and (verdict := self._independent()) is not None:
            return verdict
        if "laws" in self.checks and (verdict := self._look(FIRST_LOOK)) is not None:
            return verdict
        if (verdict := self._integrated(places)) is not None:
            verdicts.append(verdict)
            if verdict.kind is Kind.REFUTED:
                return verdict
        if "laws" in self.checks:
            verdicts.append(self._sampled())
        if not verdicts:
            return Verdict(Kind.INCONCLUSIVE, "nothing was carried out that could say more than that no fault was seen")
        kind = combine(verdict.kind for verdict in verdicts)
        return Verdict(kind, "; ".join(verdict.reason for verdict in verdicts if verdict.kind is kind))

    def not_covered(self) -> list[str]:
        """What the judgement says nothing about."""
        gaps = [
            f"more than {self.gamma} drafts, trees of drafts, laws in other dtypes than float32, "
            "batches above some 60,000 rows"
        ]
        if self.names is not None:
            gaps.append(f"contexts other than {', '.join(sorted(self.names))}")
        if self.kernel.fewest:
            gaps.append("rows without drafts, which this convention has not")
        if not self.kernel.certain:
            gaps.append("drafts without a law (q = None), which this convention has not")
        if self.kernel.with_coins is None:
            gaps.append("coins that are too rare to be drawn, such as exactly 0: this kernel draws its own")
        elif "forced-coins" not in self.checks:
            gaps.append("forced coins, which were not asked for")
        if "nan-rows" not in self.checks:
            gaps.append("draft laws of NaN, which were not asked for")
        if "laws" not in self.checks:
            gaps.append("laws by sampling, which were not asked for")
        if "independence" not in self.checks:
            gaps.append("whether rows and calls are independent, which was not asked for")
        if "laws" in self.checks and int(self.tally[3]) == 0:
            gaps.append("bonus tokens: none was emitted")
        return gaps

    def _places(self) -> list[tuple[forced.Paths, bool]]:
        found = []
        for names, most, certain in ((COINS, min(self.gamma, 2), False), (CERTAIN[:3], 1, True)):
            kept = tuple(x for x in names if self.names is None or x in self.names)
            if kept and (self.kernel.certain or not certain):
                contexts = build(kept, 3, most + 1)
                found.append((forced.paths(self.kernel, contexts, self.gamma, most, certain=certain), certain))
        return found

    def _integrated(self, places: list[tuple[forced.Paths, bool]]) -> Verdict | None:
        for where, certain in places:
            found = forced.integrate(self.kernel, where)
            if found is None:
                self.notes.append("its outcome is not piecewise constant in the coins, and was not integrated")
                return None
            fewest = int(where.lengths.min())
            tv = (found.law - where.contexts.joint()[:, None]).abs().sum(-1) / 2
            for context, length in np.ndindex(*tv.shape):
                setting = f"{fewest + length} drafts" + (", q = None" if certain else "")
                row = {"model": where.contexts.names[context], "setting": setting, "tv": float(tv[context, length])}
                self.exact.append({**row, "evaluations": found.evaluations})
            if (worst := float(tv.max())) > forced.TOLERANCE:
                context, length = divmod(int(tv.argmax()), tv.shape[1])
                self.location = locate.from_integral(found, where, context, fewest + length, certain=certain)
                how = f"TV {worst:.6g} by integrating over the coins"
                return Verdict(Kind.REFUTED, f"{how}; {locate.sentence(self.location)}")
        if not self.exact:
            return None
        worst = max(row["tv"] for row in self.exact)
        reason = f"TV at most {worst:.2g} by integrating over the coins, in {len(self.exact)} settings"
        return Verdict(Kind.CONSISTENT, reason)

    def _independent(self) -> Verdict | None:
        alphas = {check: self.budget.spend(check) for check in independence.CHECKS}
        self.evidence += independence.check(self.kernel, self.gamma, self.seed, self.generator, alphas, self.beta)
        refuting = [item for item in self.evidence if item.rejected]
        if not refuting:
            return None
        self.location = {"check": refuting[0].check, "branch": "any", "direction": "copies"}
        return Verdict(Kind.REFUTED, f"{refuting[0].check}: {refuting[0].detail}; rows are not independent draws")

    def _look(self, rows: int) -> Verdict | None:
        """Play every trial up to so many rows of each context; the verdict, if it is refuted."""
        for trial in self.trials:
            tally, worst = trial.look(
                self.kernel, rows, self.gamma, self.draws, self.generator, self.deadline, self.alphas
            )
            self.tally += tally
            if worst is not None:
                self._collect()
                location = locate.from_samples(trial.recent, trial.contexts, worst.context, certain=trial.certain)
                self.location = {**location, "check": worst.check}
                found = next(item for item in self.evidence if item.check == worst.check)
                return Verdict(Kind.REFUTED, f"{found.check}: {found.detail}; {locate.sentence(self.location)}")
        return None

    def _sampled(self) -> Verdict:
        rows = FIRST_LOOK
        while rows < max(trial.need for trial in self.trials) and time.perf_counter() < self.deadline:
            rows *= 2
            if (verdict := self._look(rows)) is not None:
                return verdict
        self._collect()
        verified, accepted, recovered, _ = self.tally.double().tolist()
        if min(trial.played for trial in self.trials) == 0:
            return Verdict(Kind.INCONCLUSIVE, "out of time before every context was played; allow more seconds")
        asked = {stream.check: stream.delta for stream in self.streams}
        asked |= self.apart
        return judge_evidence(Lossless(), self.evidence, Coverage(True, verified, accepted, recovered), asked)

    def _collect(self) -> None:
        for stream in self.streams:
            if stream.blocks:
                self.evidence.append(stream.evidence(self.budget.spend(stream.check), self.beta))
