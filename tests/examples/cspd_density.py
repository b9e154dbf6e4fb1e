"""What CSpD as published (arXiv 2411.11925) makes of one token, exactly, beside what it should be."""

import numpy as np
import torch

from specverify.evidence.quadrature import density, line, thinning
from specverify.evidence.surrogate import distances
from specverify.laws import Chain, Denoised, Denoiser, Mixture


def head(noise):  # two denoising steps towards N(0, 1), their standard deviations multiplied by `noise`
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    return Chain(Denoised(Mixture(0 * one[..., 0], 0 * one, one), noise * one[0, 0]), Denoiser(dim=1, steps=2))


p, q = head(1.0), head(1.5)
log_p, log_q = density(p.marginal()), density(q.marginal())
on = line([0.0, 0.0], [1.0, 1.5], (log_p, log_q), width=0.25)
published, exact = distances(on, p, q, log_p)["published"], thinning(on, log_p, log_q)
for x in (-2.0, -1.0, 0.0, 1.0, 2.0):
    print(f"at {x:4}: due {np.interp(x, on.x, published.p):.3f}, comes {np.interp(x, on.x, published.out):.3f}")
print(f"total variation {published.tv:.4f}; of the exact rule {exact.tv:.0e}")
