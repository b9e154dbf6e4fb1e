"""transformers: `generation.utils._speculative_sampling`, which verifies the drafts of assisted generation."""

from transformers.generation.utils import _speculative_sampling

from specverify.integrations.causal import verification_sampler


def verify(draft, q, p):
    tokens, kept = _speculative_sampling(draft, q.log(), draft.shape[1], p.log())
    return kept, tokens[0, -1]


kernel = verification_sampler(verify)
