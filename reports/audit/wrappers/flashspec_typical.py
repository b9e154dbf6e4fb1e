"""flashspec: `typical_sample`, lossy by its own documentation, as the typical acceptance of Medusa is."""

import torch
from flashspec.sampling.typical import typical_sample

from specverify.integrations.causal import verification_sampler


def verify(draft, q, p):
    ids, first, _ = typical_sample(q.log(), p[:, :-1].log(), draft, draft.shape[1])
    return first, ids[0, first] if first < draft.shape[1] else torch.multinomial(p[0, -1], 1)


typical = verification_sampler(verify)
