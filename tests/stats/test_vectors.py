"""Right decoders of vectors over the whole suite of their judgement: longer than the suite of every day can wait."""

import pytest

from specverify import killmatrix
from specverify.cells import carry_out
from specverify.decoders import registry
from specverify.kinds.kind import Setting
from specverify.plan import plan
from specverify.subjects.continuous import judge_continuous
from specverify.subjects.continuous_suite import SUITE
from specverify.verdict import Kind


@pytest.mark.parametrize("name", ["sd", "jacobi-noise"])
def test_lossless_decoders_are_consistent_over_the_suite(name):
    judgement = judge_continuous(lambda settings: registry.build(name, settings), delta=0.03, seconds=300)
    assert judgement.verdict.kind is Kind.CONSISTENT, judgement.verdict.reason
    assert judgement.level == "decoder"
    assert judgement.claim == "lossless"
    settings = {item.check.partition(":")[0] for item in judgement.evidence} - {"all settings"}
    refused = {"mix-2x4", "mix-5x4", "varied-1x4", "varied-2x4", "forked-2x4", "chain-3x3"}
    refusing = refused if name == "jacobi-noise" else set()
    assert {text.partition("/")[0] for text in settings} == {one.toy for one in SUITE} - refusing
    assert sum(item.alpha for item in judgement.evidence) <= 1e-6 * (1 + 1e-9)
    for item in judgement.evidence:
        assert 0 < item.alpha < 1e-6 < item.beta < 1
        assert item.n > 0
        assert not item.vacuous, item.check
        assert ": uniformity" not in item.check or item.delta <= 0.03
    assert "total variation of whole sequences" in judgement.not_covered[-1]
    assert "a Kolmogorov distance of 0.03 of the transforms of all tokens" in judgement.verdict.reason
    assert "float64 and float32" in judgement.verdict.reason
    said = [line for line in judgement.not_covered if "not made from normal noise" in line]
    assert bool(said) == bool(refusing)


def test_no_checker_of_vectors_flags_the_control_over_twenty_seeds(seed):
    cells = killmatrix.matrix(killmatrix.corpus("continuous", "cspd-variance-as-std"))
    for one in range(20 * seed, 20 * seed + 20):
        for cell in cells:
            if not cell.absent and (cell.checker != "judge_continuous" or one % 20 == 0):
                row = killmatrix.carry_out(cell, killmatrix.Setting(one, 0.15))
                assert (row["outcome"], row["by"]) == ("not flagged", []), row["checker"]


@pytest.mark.parametrize("cell", plan("quick", "density/path/score-1x4/*"), ids=lambda cell: cell.id)
def test_whole_trajectories_of_a_mixture_are_judged_exactly(cell):
    found = carry_out(cell, Setting("quick", 0, "cpu", {}))
    assert found["verdict"]["kind"].startswith("PROVED"), found["verdict"]["reason"]
    assert found["figures"]["density"]["tv"] + found["figures"]["density"]["error"] <= 1e-6
