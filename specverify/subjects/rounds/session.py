"""One judgement under way: in which order the checks come, and what they add up to."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import TypedDict

import numpy as np
import torch

from specverify.batteries import calls
from specverify.claims import Lossless
from specverify.deadline import Deadline
from specverify.draws import Sampled
from specverify.evidence.design import AlphaBudget
from specverify.evidence.lags import CIRCULAR
from specverify.evidence.result import Evidence
from specverify.judge import Coverage, judge_evidence
from specverify.seeds import derived_seed
from specverify.subjects.rounds import (
    contract,
    edges,
    forced,
    independence,
    locate,
    reported,
    rounding,
    scope,
    takes,
    words,
)
from specverify.subjects.rounds.batches import Batches
from specverify.subjects.rounds.contexts import build, vocabulary
from specverify.subjects.rounds.kernel import Kernel, KernelPlace, ShownRow
from specverify.subjects.rounds.kinds import BARRED
from specverify.subjects.rounds.pace import RESERVE, fit
from specverify.subjects.rounds.sampling import Trial
from specverify.subjects.rounds.trials import CERTAIN, slots_of, trials, windows
from specverify.verdict import Kind, Verdict, combine

COINS = (
    "dense",
    "near",
    "equal",
    "sparse target",
    "other support",
    "disjoint",
    "sharp",
    "partly equal",
    "sparse equal",
    "one-hot target",
    "tiny",
    "cut",
)
EIGHT = ("dense", "early", "late", "tiny")
"""Contexts of eight tokens: sums long enough for rounding to show."""
PLACES = ((COINS, 3, 2, False), (CERTAIN[:3], 3, 1, True), (EIGHT, 8, 1, False))
"""Contexts whose coins are forced: which, tokens, drafts, and whether q is kept from the kernel."""
FEW_PLACES = ((("sparse target", "sparse equal"), 3, 1, False), (("early",), 8, 1, False))
"""The same for a kernel that is slow."""
SLOW, SLOWEST = 1e-4, 1e-3
"""Seconds of the processor for a row, from which fewer coins are forced, and none."""
IRREGULAR = (
    f"with its coins given, its outcome changes more than {forced.MOST_STEPS} times along one of them, so that it was "
    "not integrated over them: it follows something else than its row and its coins, such as the row's place in the "
    "batch, how many rows there are, or randomness of its own"
)
FIRST_LOOKS = (16, 128, 1024)
"""Rows of each context at the looks that tell how fast the kernel is; each later look doubles them."""
REACH = 0.1
"""The part of the time that may go into one of them."""


class IntegratedRow(TypedDict):
    """How far off one context is, with so many drafts, by integrating over the coins."""

    model: str
    setting: str
    tv: float
    evaluations: int


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
        aim: tuple[float, float],
        deadline: Deadline,
        names: Collection[str] | None,
        by_rule: bool,
    ) -> None:
        delta, self.slack = aim
        self.reported = reported.Reported()
        self.kernel = self.reported.watch(kernel)
        self.gamma, self.seed, self.beta, self.deadline = gamma, seed, beta, deadline
        self.checks, self.names = checks, names
        self.trials = trials(kernel, gamma, delta, names, by_rule) if "laws" in checks else []
        apart = "batches" in checks and kernel.batch != "single" and names is None
        self.batches = Batches(self.kernel, gamma, delta) if apart else None
        self.windows = windows(self.kernel, gamma) if names is None else ()
        self.streams = [stream for trial in self.trials for stream in trial.streams]
        self.reserve = (1 - RESERVE) * deadline.left
        self.budget = AlphaBudget(alpha)
        self.apart = {name: calls.CHECKS[name].delta(delta) for name in independence.NAMES if "independence" in checks}
        groups = [group for group in ("laws", "independence") if group in checks]
        groups += ["batches"] * (self.batches is not None) + ["reports"] * kernel.reports
        if sampled := calls.names(groups, [stream.check for stream in self.streams]):
            self.budget.allocate(sampled)
        self.alphas = {row["check"]: row["alpha"] for row in self.budget.table()}
        self.generator = contract.generator(derived_seed(seed, 6))
        self.draws = Sampled(derived_seed(seed, 7))
        self.tally = torch.zeros(4, dtype=torch.int64)
        self.evidence: list[Evidence] = []
        self.exact: list[IntegratedRow] = []
        self.notes: list[str] = []
        self.dropped: set[int] = set()  # vocabularies over which not all was played
        self.location: KernelPlace | None = None
        self.certificate: ShownRow | None = None

    def judge(self) -> Verdict:
        """The verdict; what it rests on is left in the session."""
        found = self._judge()
        if not self.kernel.reports or self.reported.rows == 0:
            return found
        item = self.reported.evidence(self.budget.spend(reported.CHECK), self.beta)
        self.evidence.append(item)
        wrong = reported.verdict(item)
        if wrong is None or found.kind is Kind.ERROR:
            return found
        if found.kind is Kind.REFUTED:
            self.notes.append(wrong.reason)
            return found
        return Verdict(wrong.kind, f"{wrong.reason}: {found.kind.value}, {found.reason}")

    def box(self) -> str:
        """What was played, in a few words."""
        sizes = [size for size, rows in self.batches.played.items() if rows] if self.batches else []
        return scope.box(self.kernel, (self.gamma, *self.windows), self.trials, sizes, self.dropped)

    def not_covered(self, *, ended: bool) -> list[str]:
        """What the judgement says nothing about; what a fault left unplayed is one line if it `ended` there."""
        sizes = [size for size, rows in self.batches.played.items() if rows] if self.batches else []
        slots = (self.gamma, *self.windows)
        return scope.gaps(self.kernel, slots, self.checks, self.names, int(self.tally[3]), sizes, ended)

    def _judge(self) -> Verdict:
        coins = "forced-coins" in self.checks and self.kernel.with_coins is not None
        dense = build(("dense",), vocabulary(self.gamma + 1), self.gamma + 1)
        begun = time.process_time()
        contract.reproducible(self.kernel, dense, self.gamma, self.seed)
        pace = (time.process_time() - begun) / (4 * contract.ROWS)
        if coins and pace > SLOWEST:
            coins = False
            self.notes.append(f"it is too slow to be tried with forced coins: {pace:.2g} s a row")
        if "nan-rows" in self.checks:
            self.notes.append(contract.refuses_or_survives_nan(self.kernel, dense, self.gamma, self.seed))
        refused = takes.refused_windows(self.kernel, self.windows, self.seed)
        self.windows = tuple(one for one in self.windows if one not in refused)
        self._drop([trial.name for trial in self.trials if trial.gamma in refused], [*refused.values()])
        places = self._places(FEW_PLACES if pace > SLOW else PLACES) if coins else []
        for where, certain in places:
            self.notes.append(edges.edges(self.kernel, where) + (", q = None" if certain else ""))
        if coins and pace <= SLOW:
            # At the edges alone: the law over some coins is no rule's due while the others are held.
            for window in self.windows:
                edges.edges(self.kernel, forced.long_paths(slots_of(window, BARRED), window))
        if coins and self.names is None:
            self.notes.append(rounding.sums(self.kernel, self.gamma))
        verdicts: list[Verdict] = []
        if "independence" in self.checks and (verdict := self._independent(pace)) is not None:
            return verdict
        raising = takes.refused_trials(self.kernel, self.trials, self.gamma, self.seed)
        self._drop(raising, [*dict.fromkeys(raising.values())])
        parts: list[Trial | Batches] = [*self.trials, *([self.batches] if self.batches else [])]
        for part in parts:
            part.plan(self.alphas, self.beta)
        for rows in FIRST_LOOKS:
            # Few rows tell little of what a row costs, but enough to see that many are out of reach.
            if sum(trial.cost for trial in self.trials) * rows > REACH * self.deadline.left:
                break
            if (verdict := self._look(rows)) is not None:
                return verdict
        slowest = takes.too_slow(self.trials, REACH * self.deadline.left)
        self._drop(slowest, [f"too slow for {', '.join(slowest)}: not played on"] if slowest else [])
        slow = self._fit()
        if (verdict := self._integrated(places)) is not None:
            verdicts.append(verdict)
            if verdict.kind is Kind.REFUTED:
                return verdict
        if self.trials or self.batches:
            verdicts.append(self._sampled(slow))
        if not verdicts:
            return Verdict(Kind.INCONCLUSIVE, "nothing was carried out that could say more than that no fault was seen")
        kind = combine(verdict.kind for verdict in verdicts)
        return Verdict(kind, "; ".join(verdict.reason for verdict in verdicts if verdict.kind is kind))

    def _drop(self, refused: Collection[str], why: Sequence[str]) -> None:
        """Trials of these names are not played, or not on."""
        self.notes += why
        gone = [trial for trial in self.trials if trial.name in refused]
        self.dropped |= {trial.contexts.vocab for trial in gone if trial.beside and trial.dtype is None}
        self.trials = [trial for trial in self.trials if trial.name not in refused]
        self.streams = [stream for each in self.trials for stream in each.streams]

    def _places(self, plans: tuple[tuple[tuple[str, ...], int, int, bool], ...]) -> list[tuple[forced.Paths, bool]]:
        found = []
        for names, tokens, most, certain in plans:
            kept = tuple(x for x in names if self.names is None or x in self.names)
            if kept and (self.kernel.certain or not certain):
                most = min(self.gamma, most)
                contexts = build(kept, tokens, most + 1)
                found.append((forced.paths(self.kernel, contexts, self.gamma, most, certain=certain), certain))
        return found

    def _integrated(self, places: list[tuple[forced.Paths, bool]]) -> Verdict | None:
        for where, certain in places:
            found = forced.integrate(self.kernel, where)
            if found is None:
                return Verdict(Kind.INCONCLUSIVE, IRREGULAR)
            fewest = int(where.lengths.min())
            tv = (found.law - where.contexts.joint()[:, None]).abs().sum(-1) / 2
            for context, length in np.ndindex(*tv.shape):
                setting = f"{fewest + length} drafts" + (", q = None" if certain else "")
                off, name = float(tv[context, length]), where.contexts.names[context]
                self.exact.append({"model": name, "setting": setting, "tv": off, "evaluations": found.evaluations})
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

    def _independent(self, pace: float) -> Verdict | None:
        single = self.kernel.batch == "single"
        if (rows := independence.affordable(pace, self.deadline.left / 4, single=single)) is None:
            self.notes.append(f"it is too slow to be tried for copied rows: {pace:.2g} s a row")
            return None
        alphas = {check: self.budget.spend(check) for check in independence.NAMES}
        self.evidence += independence.check(self.kernel, self.gamma, self.seed, self.generator, alphas, self.beta, rows)
        refuting = [item for item in self.evidence if item.rejected]
        if not refuting:
            return None
        self.location = {"check": refuting[0].check, "branch": "any", "direction": "copies"}
        what = "rows are not independent draws"
        if refuting[0].metric == CIRCULAR:  # rows of some places that have another law lean the same way
            what += ", or those of some places are drawn from another law"
        return Verdict(Kind.REFUTED, f"{refuting[0].check}: {refuting[0].detail}; {what}")

    def _look(self, rows: int) -> Verdict | None:
        """Play every trial up to so many rows of each context; the verdict, if it is refuted."""
        for trial in self.trials:
            tally, worst = trial.look(self.kernel, rows, self.draws, self.generator, self.deadline, self.alphas)
            self.tally += tally
            if worst is not None:
                self._collect()
                found = next(item for item in self.evidence if item.check == worst.check)
                if worst.view is not None:
                    self.location = worst.place(worst.view, trial.contexts.names[0])
                else:
                    location = locate.from_samples(trial.recent, trial.contexts, worst.context, certain=trial.certain)
                    self.location = {**location, "check": worst.check}
                where = locate.sentence(self.location)
                if trial.dtype is not None:
                    where += "; " + words.rounded(trial.kind)
                return Verdict(Kind.REFUTED, f"{found.check}: {found.detail}; {where}")
        return None

    def _look_at_batches(self, rows: int) -> Verdict | None:
        """Play batches up to so many rows of each size; the verdict, if it is refuted."""
        assert self.batches is not None
        return self._of_batches(*self.batches.look(rows, self.draws, self.generator, self.deadline, self.alphas))

    def _look_again(self) -> Verdict | None:
        """Play those batches on that are most in doubt, if all that were planned were played and there is time left."""
        if not self.batches or self.batches.reached < self.batches.wanted or self.deadline.left < self.reserve:
            return None
        return self._of_batches(*self.batches.look_again(self.draws, self.generator, self.deadline, self.alphas))

    def _of_batches(self, tally: torch.Tensor, worst: tuple[str, int] | None) -> Verdict | None:
        """What a look at batches found: the verdict, if the kernel is refuted."""
        assert self.batches is not None
        self.tally += tally
        if worst is None:
            return None
        self._collect()
        context, recent = self.batches.suspects(*worst)
        location = locate.from_samples(recent, self.batches.contexts, context, certain=False)
        self.location = {**location, "check": worst[0], "where": self.batches.names[worst[0]][worst[1]]}
        found = next(item for item in self.evidence if item.check == worst[0])
        return Verdict(Kind.REFUTED, f"{worst[0]}: {found.detail}; {locate.sentence(self.location)}")

    def _fit(self) -> str | None:
        """Set how many rows there is time for; a note if they are not all that were planned."""
        seconds = max(0.0, self.deadline.left - self.reserve)
        return fit(self.trials, self.batches, seconds, self.draws, self.generator, self.slack)

    def _sampled(self, slow: str | None) -> Verdict:
        if (verdict := self._play()) is not None:
            return verdict
        if slow is not None and self.deadline.left > self.reserve:
            # A short look may have told wrongly what a row costs.
            slow = self._fit()
            if (verdict := self._play()) is not None:
                return verdict
        self.notes += [slow] if slow is not None else []
        self._collect()
        verified, accepted, recovered, _ = self.tally.double().tolist()
        if min((trial.played for trial in self.trials), default=1) == 0:
            return Verdict(Kind.INCONCLUSIVE, "out of time before every context was played; allow more seconds")
        asked = {stream.check: stream.delta for stream in self.streams}
        asked |= self.apart | (self.batches.checks if self.batches else {})
        stake = Coverage(True, verified, accepted, recovered)
        verdict = judge_evidence(Lossless(), self.evidence, stake, asked, self.slack)
        if slow is not None and verdict.kind in (Kind.INCONCLUSIVE, Kind.CONSISTENT):
            return Verdict(verdict.kind, f"{verdict.reason}; {slow}")
        return verdict

    def _play(self) -> Verdict | None:
        """Play all rows that are due; the verdict, if the kernel is refuted."""
        if self.batches:
            for part in (4, 2, 1):
                if (verdict := self._look_at_batches(-(-self.batches.need // part))) is not None:
                    return verdict
        rows = max((trial.played for trial in self.trials), default=0)
        while any(trial.played < trial.need for trial in self.trials) and not self.deadline.over:
            rows *= 2
            if (verdict := self._look(rows)) is not None:
                return verdict
        return self._look_again()

    def _collect(self) -> None:
        for stream in self.streams:
            if stream.blocks:
                self.evidence.append(stream.evidence(self.budget.spend(stream.check), self.beta))
        if self.batches and any(self.batches.played.values()):
            for check in self.batches.checks:
                self.budget.spend(check)
            self.evidence += self.batches.evidence(self.alphas, self.beta)
