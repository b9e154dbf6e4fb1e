"""How often the log of a right engine is refuted: 50 logs at alpha = 0.05, of which up to 12 may be by chance."""

from specverify.decoders import DraftModel, Speculative, sample
from specverify.evidence.design import rate_excess
from specverify.subjects.trace import judge_trace
from specverify.verdict import Kind
from toymodels import draft, toy

LOGS, ROWS, ALPHA = 50, 60, 0.05


def test_right_traces_are_not_refuted_at_a_generous_rate(seed):
    model = toy("hash-16x24")
    tokens = sample(Speculative(DraftModel(draft("perturbed", model)), 4), model, LOGS * ROWS, seed).tokens
    laws = model.laws(model.start(LOGS * ROWS), tokens[:, :-1]).log()
    refuted = 0
    for part, law in zip(tokens.split(ROWS), laws.split(ROWS), strict=True):
        log = {"tokens": part.numpy(), "logprobs": law.numpy()}
        refuted += judge_trace(log, alpha=ALPHA, seed=refuted).verdict.kind is Kind.REFUTED
    assert rate_excess(refuted, LOGS, ALPHA) > 1e-6
