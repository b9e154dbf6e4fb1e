"""csaq-quant: `CSAQInferenceEngine.generate(speculative=True)`; a toy each for quantised and restored weights."""

from types import SimpleNamespace

import torch
from csaq.inference import CSAQInferenceEngine

from specverify.integrations.causal import step_sampler


class Both(torch.nn.LayerNorm):
    def forward(self, input_ids, past_key_values=None, use_cache=True):
        seen = input_ids if past_key_values is None else torch.cat([past_key_values[0][0][:, 0, :, 0], input_ids], 1)
        laws = (self.target if self.engine._in_verify else self.draft)(seen).logits[:, -input_ids.shape[1] :]
        return SimpleNamespace(logits=laws, past_key_values=[[seen[:, None, :, None]] * 2])


def step(draft, target, ids):
    model = Both(1)  # what has parameters, none of them drawn
    model.draft, model.target, model.engine = draft, target, CSAQInferenceEngine(model, {}, verbose=False)
    model.engine._hooks = [[None] * 4]
    return model.engine.generate(ids, speculative=True, lookahead=2, max_new_tokens=target.model.length)[0]


engine = step_sampler(step)
