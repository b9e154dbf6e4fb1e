"""rotalabs-accel: `rejection_sample`, called for one draft after the other as its documentation says; it is given the
draft's own probability but not the law that the draft was drawn from."""

import torch
from rotalabs_accel.speculative import rejection_sample

from specverify.integrations.causal import verification_sampler


def verify(draft, q, p):
    for slot, token in enumerate(draft[0]):
        kept, other = rejection_sample(p[0, slot, token], q[0, slot, token], token, p[0, slot].log())
        if not kept:
            return slot, other
    return draft.shape[1], torch.multinomial(p[0, -1], 1)


sample = verification_sampler(verify)
