"""economize: `RejectionVerifier.verify_tree`, over two siblings of one law with a child each."""

import torch
from economize.decoding import DecodeConfig, TopPSampler
from economize.decoding.protocols import Draft
from economize.decoding.verifiers import RejectionVerifier

from specverify.integrations.causal import step_sampler

VERIFIER, SELECTOR = RejectionVerifier(DecodeConfig(verifier="rejection")), TopPSampler()
SELECTOR.generator_for = lambda device: None


def step(draft, target, ids):
    both = draft(ids).logits[:, -1].exp().repeat(2, 1)
    paths = torch.cat([ids.repeat(2, 1), torch.multinomial(both, 1)], 1)
    laws = draft(paths).logits[:, -1].exp()
    paths = torch.cat([paths, torch.multinomial(laws, 1)], 1)
    logits = target(paths).logits[:, -3:]
    drafts = Draft(paths[:, -2:].T.reshape(1, 4), [4], torch.tensor([[-1, -1, 0, 1]]), torch.cat([both, laws])[None])
    found, token = VERIFIER.verify_tree(torch.cat([logits[:1, 0], logits[:, 1], logits[:, 2]])[None], drafts, SELECTOR)
    return torch.cat([ids, drafts.tokens[:, found[0]], torch.tensor([token])], 1)


tree = step_sampler(step)
