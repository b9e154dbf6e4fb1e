"""litgpt: `generate.speculative_decoding.speculative_decoding`, one step with one draft, over models with a cache."""

import torch
from litgpt.generate.speculative_decoding import speculative_decoding

from specverify.integrations.causal import step_sampler


def cached(causal, ids):
    seen = torch.cat([ids, torch.zeros(1, 64).long()], 1)

    def model(idx, input_pos, input_pos_maxp1):
        seen[:, input_pos] = idx
        return causal(seen[:, : input_pos[-1] + 1]).logits[:, -len(input_pos) :]

    return model


def step(draft, target, ids):
    at = torch.tensor([ids.shape[1] - 1])
    made = speculative_decoding(cached(draft, ids), cached(target, ids), ids[0, -1:], at, ids.shape[1], 1)
    return torch.cat([ids, made[None]], 1)


one = step_sampler(step)
