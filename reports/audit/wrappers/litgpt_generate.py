"""litgpt: `generate.speculative_decoding.generate`, the loop, over models with a cache by positions."""

import torch
from litgpt.generate.speculative_decoding import generate

from specverify.integrations.causal import step_sampler


class Cached(torch.nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.causal, self.max_seq_length, self.seen = causal, 64, torch.zeros(1, 64).long()

    def forward(self, idx, input_pos, input_pos_maxp1):
        self.seen[:, input_pos] = idx
        return self.causal(self.seen[:, : input_pos[-1] + 1]).logits[:, -len(input_pos) :]


def whole(draft, target, ids):
    length = target.model.length + 2
    return generate(Cached(draft), Cached(target), ids[0], length, speculative_k=1)[0][None]


loop = step_sampler(whole)
