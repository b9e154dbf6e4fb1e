"""SCD: `SpeculativeSampler` of Janus-Pro, without coupling (`__call__`, speculative Jacobi decoding) and with maximal
coupling (`_call_maximal`). Shims: the class alone is executed, with torch and functional for the imports of its module;
tokens are a softmax and a draw at every place (coupled: the last; the others are replaced); no logits are processed."""

import torch
from _clones import definitions
from torch.nn import functional

from specverify.integrations.schedulers import window

FILE = "SCD/janus_pro/scheduler/jacobi_iteration_lumina_mgpt.py"
(Sampler,) = definitions(FILE, "SpeculativeSampler", torch=torch, F=functional)
BUFFERS = ("reject_sampling_relative_ids", "reject_sampling_draft_token_logits", "sampling_last_draft_token")


def verify(method, ids, logits, q, drawn):
    p, given = logits.softmax(-1), {"all_collected_input_ids": ids[:, :1], "gsd_size": 1}
    sampler = Sampler(**{name: torch.zeros_like(p[0, :1] if "logits" in name else ids[:, 0]) for name in BUFFERS})
    tokens = torch.multinomial(p[0, drawn:], 1).T.expand(1, ids.shape[1])
    (matched,), tokens, scores = method(sampler, ids, tokens, q, p, None, logits, **given)
    return matched, tokens, scores


jacobi = window(lambda *given: verify(Sampler.__call__, *given, 0), name="speculative Jacobi, Janus-Pro")
coupled = window(lambda *given: verify(Sampler._call_maximal, *given, -1), name="SCD, Janus-Pro")
