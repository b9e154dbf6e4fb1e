"""False alarms of the judgement of verification kernels, on kernels that are right."""

from __future__ import annotations

import numpy as np

from specverify.calibration.blackbox import PATIENCE
from specverify.calibration.trial import Measured
from specverify.defects import rounds
from specverify.draws import derived_seed
from specverify.subjects.round import judge_round
from specverify.verdict import Kind


def alarms(trials: int, seed: int, *, name: str, delta: float, alpha: float) -> Measured:
    """Whole judgements, by sampling, of a control of the corpus."""
    rejected, n = [], 0
    for number in range(trials):
        found = judge_round(
            rounds.get(name).kernel, seed=derived_seed(seed, number) % 2**32, alpha=alpha, beta=0.1, delta=delta,
            seconds=PATIENCE, checks=("standard",), name=name,
        )  # fmt: skip
        if found.verdict.kind not in (Kind.REFUTED, Kind.CONSISTENT):
            raise RuntimeError(f"{found.verdict.kind.value}: {found.verdict.reason}")
        rejected.append(found.verdict.kind is Kind.REFUTED)
        n = max(n, *(item.n for item in found.evidence))
    return Measured(n, np.array(rejected))
