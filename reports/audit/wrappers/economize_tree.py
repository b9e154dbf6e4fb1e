"""economize: `RejectionVerifier.verify_tree`, over two siblings of one law, of which the first has a child."""

import torch
from economize.decoding import DecodeConfig, TopPSampler
from economize.decoding.protocols import Draft
from economize.decoding.verifiers import RejectionVerifier

from specverify.integrations.causal import step_sampler

VERIFIER, SELECTOR = RejectionVerifier(DecodeConfig(verifier="rejection")), TopPSampler()
SELECTOR.generator_for = lambda device: None


@step_sampler
def tree(draft, target, ids):
    q = draft(ids).logits[0, -1].exp()
    first, second = torch.multinomial(q.repeat(2, 1), 1)[:, None]
    law = draft(torch.cat([ids, first], 1)).logits[0, -1].exp()
    drafts = Draft(torch.cat([first, second, torch.multinomial(law, 1)[None]], 1), [3], torch.tensor([[-1, -1, 0]]))
    drafts.probs = torch.stack([q, q, law])[None]
    behind = target(torch.cat([ids, drafts.tokens[:, ::2]], 1)).logits[0, -3:]
    logits = torch.stack([*behind[:2], target(torch.cat([ids, second], 1)).logits[0, -1], behind[2]])[None]
    found, token = VERIFIER.verify_tree(logits, drafts, SELECTOR)
    return torch.cat([ids, drafts.tokens[:, found[0]], torch.tensor([token])], 1)
