"""The box of a proof: it names what was enumerated, and nothing else."""

from dataclasses import replace

import torch

from specverify.claims import Lossless
from specverify.decoders import Jacobi, Speculative
from specverify.evidence.cases import Case, Weights
from specverify.evidence.search import evaluate
from specverify.subjects.box import box, outside
from specverify.subjects.finding import Findings
from specverify.verdict import Kind


def outcomes(*cases):
    return [evaluate(lambda settings: Speculative(Jacobi(), settings.window), case, Lossless()) for case in cases]


FAIR = Weights(2, 2, ((1, 1), (1, 3), (1, 10**8)))


def test_each_vocabulary_has_its_own_lengths_and_windows():
    text = box(outcomes(Case(FAIR, window=1), Case(FAIR, window=2), Case(FAIR, window=9), Case("sparse-3x5", window=3)))
    assert text.startswith(
        "2 tokens by 2, windows 1-2; 3 tokens by 5, windows 3; probabilities from 1e-08; without an end"
    )


def test_what_is_special_is_named():
    ended = Weights(2, 2, FAIR.weights, eos=1)
    guided = Weights(2, 2, FAIR.weights, guide=FAIR.weights[::-1])
    single = Case("eos-3x6", window=1, precision="float32")
    cut = Weights(2, 2, FAIR.weights, processors="temperature=0.5,top_k=1")
    text = box(outcomes(Case(ended, window=1, initial="random"), Case(guided, window=1), Case(cut, window=1), single))
    assert "laws in float64, and in float32 of 3 tokens to " in text
    assert "with and without an end" in text
    assert "guided by a second law; some laws processed by temperature, top_k; initial" in text
    assert "initial drafts random" in text


def test_what_lies_outside_is_never_empty():
    lines = outside(outcomes(Case(FAIR, window=2)))
    assert lines[0].startswith("larger models: vocabularies above 2, sequences above 2 tokens, windows above 2")
    assert any("half precision" in line for line in lines)
    assert any("thousands of steps" in line for line in lines)
    assert any("recognises" in line for line in lines)


def test_a_residual_that_is_drawn_in_another_step_is_no_missing_one():
    """Where drafts were rejected something was at stake, whatever the token that came for one is called."""
    (outcome,) = outcomes(Case("dense-3x6", window=2))
    exact = outcome.exact
    assert exact.verified > exact.accepted > 0
    for accepted, kind in ((exact.accepted, Kind.PROVED), (exact.verified, Kind.VACUOUS)):
        renamed = replace(exact, accepted=accepted, branches={**exact.branches, "recovered": 0.0})
        found = Findings(Lossless(), [replace(outcome, exact=renamed)], [], [], 0, torch.float64, "")
        assert found.verdict([]).kind is kind
