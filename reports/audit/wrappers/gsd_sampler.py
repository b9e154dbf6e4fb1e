"""GSD: `SpeculativeSampler`, called as its loop does; what it clusters by the images that tokens stand for is all near.
Shims: the class alone is executed, with torch and functional for the imports of its module; `sampling_logits2tokens` is
a softmax and a draw at every place; and there are no processors of logits."""

import torch
from _clones import definitions
from torch.nn import functional

from specverify.integrations.schedulers import window

FILE = "GSD/scheduler/jacobi_iteration_lumina_mgpt.py"
(Sampler,) = definitions(FILE, "SpeculativeSampler", torch=torch, F=functional)
BUFFERS = ("reject_sampling_relative_ids", "reject_sampling_draft_token_logits", "sampling_last_draft_token")


def verify(ids, logits, q):
    p = logits.softmax(-1)
    sampler = Sampler(**{name: torch.zeros_like(p[0, :1] if "logits" in name else ids[:, 0]) for name in BUFFERS})
    more = {"draft_logits": None, "advanced_logits": logits, "all_collected_input_ids": ids[:, :1]}
    near = torch.zeros(p.shape[-1], p.shape[-1])
    (matched,), tokens, scores = sampler(ids, torch.multinomial(p[0], 1).T, q, p, **more, head_img_sims=near)
    return matched, tokens, scores


gsd = window(verify, name="GSD as released")
