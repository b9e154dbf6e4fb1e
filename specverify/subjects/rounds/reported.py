"""Is what a kernel reports beside its tokens true?

FlashInfer's second output counts the drafts of a row that pass on their own, wherever the first was rejected. It holds
the drafts that were kept, and each draft behind the rejected one with probability min(1, p / q). The rejected one is
tossed for again in some releases, and not in others; both are taken for right. Wrong counts with right tokens spoil
every acceptance rate that is read off them; that is a finding of its own, which says nothing of the tokens' law.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from specverify.batteries import calls
from specverify.evidence.result import Evidence
from specverify.model import row_mask
from specverify.rules.token import accept_probability
from specverify.subjects.rounds.kernel import Kernel, Outcome, Round
from specverify.verdict import Kind, Verdict

(CHECK,) = calls.of("reports")


class Reported:
    """What the outcomes of a kernel reported, against what happened."""

    def __init__(self) -> None:
        self.impossible = ""
        self.rows = self.counted = 0
        self.least = self.most = self.variance = 0.0

    def watch(self, kernel: Kernel) -> Kernel:
        """The kernel, with its reports looked at."""
        if not kernel.reports:
            return kernel

        def verify(given: Round, generator: torch.Generator) -> Outcome:
            outcome = kernel.verify(given, generator)
            if outcome.passed is not None and given.q is not None:
                self._look(given, outcome, outcome.passed)
            return outcome

        return replace(kernel, verify=verify)

    def evidence(self, alpha: float, beta: float) -> Evidence:
        """The counts beyond the kept drafts: to the larger sum, if the rejected draft is tossed for again."""
        check = calls.CHECKS[CHECK].make(self.variance / max(1, self.rows))
        told = self.counted, self.least, self.most, self.rows
        found = calls.carry_out(CHECK, check, *told, alpha=alpha, beta=beta)
        return replace(found, rejected=True, detail=self.impossible) if self.impossible else found

    def _look(self, given: Round, outcome: Outcome, passed: Tensor) -> None:
        assert given.q is not None
        kept, length = outcome.accepted, given.lengths
        if bool((bad := (passed < kept) | (passed > length)).any()) and not self.impossible:
            row = int(bad.nonzero()[0])
            self.impossible = (
                f"it reports {int(passed[row])} accepted drafts in a row of {int(length[row])} of which it kept "
                f"{int(kept[row])}; from {int(kept[row])} to {int(length[row])} are possible"
            )
        slots = given.draft.shape[1]
        used, rejected = row_mask(length, slots), torch.arange(slots) == kept[:, None]
        chance = accept_probability(given.p[:, :-1].double(), given.q.double(), given.draft)
        behind = chance.where(used & ~row_mask(kept + 1, slots), 0.0)
        self.rows += len(kept)
        self.counted += int((passed - kept).sum())
        self.least += float(behind.sum())
        self.most += float(behind.sum() + chance.where(used & rejected, 0.0).sum())
        self.variance += float((chance * (1 - chance)).where(used & ~row_mask(kept, slots), 0.0).sum())


def verdict(found: Evidence) -> Verdict | None:
    """ERROR where the figures are wrong: they say nothing of the tokens."""
    if not found.rejected:
        return None
    return Verdict(Kind.ERROR, f"{CHECK}: {found.detail}; its reported acceptance is wrong, whatever its tokens are")
