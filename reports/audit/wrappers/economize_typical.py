"""economize: `TypicalVerifier.verify`, lossy by its own documentation, as the typical acceptance of Medusa is."""

from economize.decoding import DecodeConfig, TopPSampler
from economize.decoding.verifiers import TypicalVerifier

from specverify.integrations.causal import verification_sampler

VERIFIER, SELECTOR = TypicalVerifier(DecodeConfig(verifier="typical")), TopPSampler()
SELECTOR.generator_for = lambda device: None


def verify(draft, q, p):
    return VERIFIER.verify(p[0].log(), draft[0].tolist(), q[0], SELECTOR, draft[0], 0)


typical = verification_sampler(verify)
