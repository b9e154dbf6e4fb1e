"""A toy of which one thing is changed."""

import torch

import toymodels


class Changed:
    """A toy of which one thing is changed."""

    def __init__(self, changed=lambda laws, place: laws, dtype=torch.float64):
        self.inner, self.changed, self.dtype = toymodels.toy("hash-16x24"), changed, dtype
        self.vocab, self.length, self.eos, self.device = 16, 80, None, self.inner.device
        self.name = "changed"

    def start(self, batch):
        return torch.zeros(batch, 1, dtype=torch.int64), torch.zeros(batch, dtype=torch.int64)

    def laws(self, context, draft):
        sums, place = self.sums(context, draft), context[1]
        logits = torch.sin((sums[..., None] + 1.0) * torch.arange(1.0, 17.0, dtype=torch.float64))
        return self.changed(logits.softmax(-1), place[:, None] + torch.arange(sums.shape[1]))

    def sums(self, context, tokens):
        return torch.cat([context[0], tokens], 1).cumsum(1)

    def advance(self, context, tokens, count):
        return self.sums(context, tokens).gather(1, count[:, None]), context[1] + count
