"""SCD: `CosmosSpeculativeSampler` with maximal coupling, and that of `speculative_sampler_gsd.py`, relaxed as GSD is.
Shims: the class alone is executed, with torch and typing for the imports of its module; the last token alone is drawn
for it, since it replaces the others."""

import typing

import torch
from _clones import definitions

from specverify.integrations.schedulers import window

FILES = "SCD/cosmos/cosmos1/models/autoregressive/sjd/speculative_sampler"
GIVEN = {"torch": torch, **{name: getattr(typing, name) for name in ("List", "Optional", "Tuple")}}
(Coupled,) = definitions(f"{FILES}.py", "CosmosSpeculativeSampler", **GIVEN)
(Grouped,) = definitions(f"{FILES}_gsd.py", "CosmosSpeculativeSampler", **GIVEN)


def verify(sampler, ids, logits, q):
    drawn = torch.multinomial(logits[:, -1].softmax(-1), 1).expand(1, ids.shape[1])
    (matched,), tokens, scores = sampler(ids, drawn, q, logits.softmax(-1))
    return matched, tokens, scores


coupled = window(lambda *given: verify(Coupled(), *given), name="SCD, Cosmos")
grouped = window(lambda *given: verify(Grouped(), *given), name="SCD and GSD, Cosmos")
