"""mini-infer: `speculative.verifier.speculative_step` at temperature 1."""

import torch
from mini_infer.speculative.verifier import speculative_step

from specverify.integrations.causal import step_sampler


def step(draft, target, ids):
    tokens, _ = speculative_step(target, draft, ids, k_draft=2, temperature=1.0)
    return torch.cat([ids, torch.tensor([tokens])], 1)


stochastic = step_sampler(step)
