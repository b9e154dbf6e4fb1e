"""dflash: `model._rejection_sample`, which verifies a block of `dflash_generate`."""

from dflash.model import _rejection_sample

from specverify.integrations.causal import verification_sampler


def verify(draft, q, p):
    return _rejection_sample(draft, p, q)


block = verification_sampler(verify)
