"""flashspec: `rejection_sample` (after which its engine draws the bonus token), `rejection_step` and
`rejection_step_onehot`, for which every draft counts as certain."""

import torch
from flashspec.sampling.rejection import rejection_sample, rejection_step, rejection_step_onehot

from specverify.integrations.causal import verification_sampler


def sample(draft, q, p):
    ids, first, _ = rejection_sample(draft, q.log(), p[:, :-1].log(), draft, draft.shape[1])
    return first, ids[0, first] if first < draft.shape[1] else torch.multinomial(p[0, -1], 1)


def step(draft, q, p):
    return rejection_step(draft, q.log(), p.log())[0]


def onehot(draft, q, p):
    return rejection_step_onehot(draft, p.log())[0]


sample, step, onehot = map(verification_sampler, (sample, step, onehot))
