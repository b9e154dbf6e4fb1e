"""rotalabs-accel: `tree_speculative_decode` at temperature 1. It drafts the most probable tokens, not drawn ones, and
may be meant as a heuristic; its page speaks of verification alone."""

from types import SimpleNamespace

import torch
from rotalabs_accel.speculative import TreeSpecConfig, tree_speculative_decode

from specverify.integrations.causal import step_sampler


def step(draft, target, ids):
    words = SimpleNamespace(encode=lambda *_, **__: ids, decode=lambda row, **_: row, eos_token_id=target.model.eos)
    config = TreeSpecConfig(max_depth=2, branch_factor=2, max_new_tokens=target.model.length)
    return tree_speculative_decode(draft, target, words, "", config, torch.device("cpu"))[0][None]


tree = step_sampler(step)
