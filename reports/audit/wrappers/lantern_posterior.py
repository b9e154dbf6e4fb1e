"""LANTERN: `EaModel.evaluate_posterior` of LlamaGen, over two branches of two drafts, the most probable; plain, and
relaxed towards one neighbour of each token. Shims: the method alone is executed, with torch for its imports, and for
`random.random`; the object has `nearest_latents` alone, made up; its processor of logits does nothing."""

from types import SimpleNamespace

import torch
from _clones import definitions

from specverify.integrations.causal import step_sampler

GIVEN = {"torch": torch, "random": SimpleNamespace(random=lambda: torch.rand(()))}
(posterior,) = definitions("LANTERN/models/ea_model_llamagen.py", "evaluate_posterior", **GIVEN)


def step(draft, target, ids, **how):
    branches = [torch.cat([ids, one[None, None]], 1) for one in draft(ids).logits[0, -1].topk(2).indices]
    rows = torch.cat([torch.cat([row, draft(row).logits[:, -1:].argmax(-1)], 1) for row in branches])
    logits, vocab = torch.cat([target(row[None]).logits[:, -3:] for row in rows]), target.model.vocab
    model = SimpleNamespace(nearest_latents=(torch.arange(vocab)[:, None] + 1) % vocab)
    best, kept, law = posterior(model, logits, rows[:, -3:], lambda _, given: given, **how)
    return torch.cat([ids, rows[best, None, ids.shape[1] :][:, :kept], torch.multinomial(law, 1)[None]], 1)


plain, relaxed = step_sampler(step), step_sampler(lambda *given: step(*given, lantern=True, lantern_k=1))
