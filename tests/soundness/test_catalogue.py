"""Every catalogued subject through the judgement that `specverify validate` gives: defects are refuted, controls not.

Not through the checkers of the kill matrix: these know what they look for.
"""

import pytest

from specverify import defects, killmatrix
from specverify.defects import continuous, rounds, samplers
from specverify.subjects.here import judge_here

SUBJECT = {
    "decoder": lambda name: defects.get(name).build,
    "round": lambda name: rounds.get(name).kernel,
    "sampler": lambda name: samplers.get(name).sample,
    "continuous": lambda name: continuous.get(name).build,
}
ASKED_FOR = {known.id for known in killmatrix.corpus("round") if known.named == ("nan-rows",)}
"""Kernels that go wrong on draft laws of NaN alone: few claim to take them, so that they are asked for by name."""


SMALL = {name for name in defects.names() if defects.get(name).lossy and not defects.get(name).within_rounding}
"""Decoders that `test_decoder_whole` judges, for how small their counterexamples are."""
ROUNDING = {name for name in defects.names() if defects.get(name).within_rounding}


@pytest.mark.parametrize(
    "known",
    [known for known in killmatrix.corpus() if known.level != "decoder" or known.id not in SMALL],
    ids=lambda known: f"{known.level}-{known.id}",
)
def test_the_judgement_itself_refutes_every_defect_and_no_control(known):
    judgement = judge_here(SUBJECT[known.level](known.id), known.level, name=known.id)
    kind, reason = judgement.verdict.kind.value, judgement.verdict.reason
    if known.level == "decoder" and known.id in ROUNDING:
        assert kind == "INCONCLUSIVE", f"{kind}: {reason}"
        assert "a defect below it looks the same" in reason
    elif known.lossy and known.id not in ASKED_FOR:
        assert kind == "REFUTED", f"{kind}: {reason}"
    else:
        assert kind not in ("REFUTED", "ERROR"), f"{kind}: {reason}"
