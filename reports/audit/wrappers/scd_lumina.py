"""SCD: `SpeculativeSampler` of Lumina-mGPT with maximal coupling, called as its loop does. Shims: the class alone is
executed, with torch and functional for the imports of its module; there are no processors of logits; and of what
`sampling_logits2tokens` draws, the last token alone is drawn, since the class replaces the others."""

import torch
from _clones import definitions
from torch.nn import functional

from specverify.integrations.schedulers import window

FILE = "SCD/lumina1/scheduler/jacobi_iteration_lumina_mgpt_SCDMC.py"
(Sampler,) = definitions(FILE, "SpeculativeSampler", torch=torch, F=functional)
BUFFERS = ("reject_sampling_relative_ids", "reject_sampling_draft_token_logits", "sampling_last_draft_token")


def verify(ids, logits, q):
    p = logits.softmax(-1)
    sampler = Sampler(**{name: torch.zeros_like(p[0, :1] if "logits" in name else ids[:, 0]) for name in BUFFERS})
    drawn = torch.multinomial(p[:, -1], 1).repeat(1, ids.shape[1])
    (matched,), tokens, scores = sampler(ids, drawn, q, p, all_collected_input_ids=ids[:, :1])
    return matched, tokens, scores


coupled = window(verify, name="SCD, Lumina-mGPT")
