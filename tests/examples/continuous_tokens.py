"""A lossless decoder of continuous tokens, sampled and judged."""

from specverify.decoders import sample
from specverify.decoders.continuous import DraftModel, Reflection, Speculative
from specverify.evidence.rosenblatt import RosenblattUniformity, transforms
from specverify.subjects.continuous import judge_continuous
from toymodels import continuous, continuous_drafts

toy = continuous.toy("gauss-8x4")  # 4 tokens in 8 dimensions, a law that is fixed for ever
draft = continuous_drafts.draft("shifted", toy)  # means one standard deviation off: TV 0.38
decoder = Speculative(DraftModel(draft), window=3, judging=Reflection())

run = sample(decoder, toy, n=20_000, seed=0)
print(f"{run.passes.double().mean():.2f} passes instead of {toy.length}, {run.acceptance_rate:.1%} of drafts accepted")

check = RosenblattUniformity("coordinate").check(transforms(toy, run.tokens), alpha=1e-6, beta=1e-3)
print(f"rejected: {check.rejected}; sees a Kolmogorov distance of {check.delta:.3f} in any of 32 coordinates")

verdict = judge_continuous(decoder, toys=[toy.name]).verdict
print(f"{verdict.kind.value}: {verdict.reason}")
