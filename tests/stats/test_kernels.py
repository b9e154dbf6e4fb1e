"""What takes minutes of the kernels of the corpus: controls over many seeds and over all coins, defects that show late.

Each judgement runs at the judgement's alpha = 1e-6, and all together raise a false alarm with probability
below 2e-4.
"""

import pytest

from specverify.defects import rounds
from specverify.subjects.round import judge_round
from specverify.verdict import Kind

CONTROLS = [name for name in rounds.names() if not rounds.get(name).lossy]
LOSSY = [name for name in rounds.names() if rounds.get(name).lossy]
SEEDS = 20


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("name", CONTROLS)
def test_control_is_never_flagged(name, seed):
    # At delta = 0.3 each of the 38 laws takes some 1,500 rows; false alarms are as rare at any n.
    judgement = judge_round(rounds.get(name).kernel, seed=seed, delta=0.3, checks=("standard",))
    assert judgement.verdict.kind is Kind.CONSISTENT, judgement.verdict.reason


@pytest.mark.parametrize("name", [name for name in CONTROLS if rounds.get(name).kernel.with_coins])
def test_control_is_exact_over_all_coins(name):
    judgement = judge_round(rounds.get(name).kernel, checks=("forced-coins",))
    assert judgement.verdict.kind is Kind.CONSISTENT, judgement.verdict.reason
    assert len(judgement.exact) == 50
    assert max(row["tv"] for row in judgement.exact) < 2e-5


@pytest.mark.parametrize("name", LOSSY)
def test_defect_is_refuted_by_the_check_that_it_names(name):
    defect = rounds.get(name)
    judgement = judge_round(defect.kernel, checks=(defect.caught_by,))
    assert judgement.verdict.kind is Kind.REFUTED, judgement.verdict.reason
