"""speculative-decoding: `speculative_decoding`, one sequence at a time, over models whose cache holds the tokens."""

import torch
from speculative_decoding import speculative_decoding

from specverify.integrations.causal import step_sampler


def cached(model):
    def net(ids, cache=None, **_):
        seen = ids if cache is None else torch.cat([cache[0][:, 0, :, 0], ids[:, cache[0].shape[2] :]], 1)
        return model(seen).logits, (seen[:, None, :, None], None)

    return net


def step(draft, target, ids):
    length = target.model.length + 1
    made, _ = speculative_decoding(cached(target), cached(draft), ids, length, gamma=2, filter_thres=0.0)
    return torch.cat([ids, made], 1)


loop = step_sampler(step)
