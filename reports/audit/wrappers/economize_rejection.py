"""economize: `RejectionVerifier`, of one row (`verify`) and of a batch (`verify_batch`). Its sampler draws from torch's
global generator here, as rows with a generator of one seed each would all draw the same."""

from economize.decoding import DecodeConfig, TopPSampler
from economize.decoding.protocols import Draft
from economize.decoding.verifiers import RejectionVerifier

from specverify.integrations.causal import verification_sampler

VERIFIER, SELECTOR = RejectionVerifier(DecodeConfig(verifier="rejection")), TopPSampler()
SELECTOR.generator_for = lambda device: None


def verify(draft, q, p):
    return VERIFIER.verify(p[0].log(), draft[0].tolist(), q[0], SELECTOR, draft[0], 0)


def verify_batch(draft, q, p):
    drafts = Draft(draft, [draft.shape[1]], probs=q)
    return VERIFIER.verify_batch(p.log(), drafts, SELECTOR, draft, [0])


one, batch = verification_sampler(verify), verification_sampler(verify_batch)
