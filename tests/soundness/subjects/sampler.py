"""Black boxes: plain decoding by inversion, or speculative decoding, each with one thing wrong beside the decoder."""

from __future__ import annotations

import numpy as np
import torch

from specverify.decoders import DraftModel, Speculative, sample
from specverify.processors import Guided, Processed, Processor, guidance, top_k_ties


def _inversion(target, n, numbers):
    """`numbers(position)`: one uniform number for each row."""
    context, rows = target.start(n), []
    ended = torch.zeros(n, dtype=torch.bool)
    for position in range(target.length):
        law = target.laws(context, torch.zeros(n, 0, dtype=torch.int64))[:, 0]
        token = (law.cumsum(1)[:, :-1] <= numbers(position)[:, None]).sum(1)
        if target.eos is not None:
            token = token.where(~ended, target.eos)
            ended |= token == target.eos
        rows.append(token)
        context = target.advance(context, token[:, None], torch.ones(n, dtype=torch.int64))
    return torch.stack(rows, 1)


def _fresh(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return lambda position: torch.rand(n, dtype=torch.float64, generator=generator)


def fresh(target, draft, n, seed):
    """Right."""
    return _inversion(target, n, _fresh(n, seed))


def ring_of_eleven(target, draft, n, seed):
    """Position 11 gets the number of position 0."""
    kept = torch.rand(n, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return _inversion(target, n, lambda position: kept[:, position % 11])


def tidied(target, draft, n, seed):
    """A batch comes back in the order of its sequences."""
    found = fresh(target, draft, n, seed)
    return found[np.lexsort(found.numpy().T[::-1]).tolist()]


def rows_share(target, draft, n, seed):
    """Behind the first three positions, every other row gets the number of the row above it."""
    draws = _fresh(n, seed)

    def numbers(position):
        found = draws(position)
        if position >= 3:
            found[1::2] = found[: n - n % 2 : 2]
        return found

    return _inversion(target, n, numbers)


def right(target, draft, n, seed):
    """Right."""
    return sample(Speculative(DraftModel(draft), 3), target, n, seed).tokens


def cold_when_alone(target, draft, n, seed):
    """A single request is decoded at a temperature of two thirds."""
    if n > 1:
        return right(target, draft, n, seed)

    class Cold:
        def __getattr__(self, name):
            return getattr(target, name)

        def laws(self, context, tokens):
            law = target.laws(context, tokens) ** 1.5
            return law / law.sum(-1, keepdim=True)

    return right(Cold(), draft, n, seed)


def all_ties(target, draft, n, seed):
    """Top-k by a threshold, as many engines have it."""
    if isinstance(target, Processed):
        steps = [
            Processor(step.label, top_k_ties, step.setting) if step.label.startswith("top-k") else step
            for step in target.processors
        ]
        target = Processed(target.inner, steps)
    return right(target, draft, n, seed)


def first_token_forgotten(target, draft, n, seed):
    """The unconditional branch never sees the first token."""

    class Late(Guided):
        """Its unconditional contexts are kept for the sequence without its first token, which drafts may hold."""

        def start(self, batch):
            conditional, unconditional = super().start(batch)
            return conditional, unconditional, torch.zeros(batch, dtype=torch.bool)

        def laws(self, context, draft):
            conditional, unconditional, begun = context
            free = self.unconditional.laws(unconditional, draft)
            if draft.shape[1]:
                late = self.unconditional.laws(unconditional, draft[:, 1:])
                free = free.where(begun[:, None, None], torch.cat([late[:, :1], late], 1))
            return guidance(self.conditional.laws(conditional, draft), free, self.scale)

        def advance(self, context, tokens, count):
            conditional, unconditional, begun = context
            skipped = tokens.where(begun[:, None], tokens.roll(-1, 1))
            fewer = count - (~begun & (count > 0)).long()
            after = self.unconditional.advance(unconditional, skipped, fewer)
            return self.conditional.advance(conditional, tokens, count), after, begun | (count > 0)

    if isinstance(target, Guided):
        target = Late(target.conditional, target.unconditional, target.scale)
    return right(target, draft, n, seed)


def logs_of_the_raw_model(target, draft, n, seed):
    """Right tokens, beside the log-probabilities before processors."""
    tokens = right(target, draft, n, seed)
    raw = target.inner if isinstance(target, Processed) else target
    laws = raw.laws(raw.start(n), tokens[:, :-1])
    return tokens, laws.gather(2, tokens[..., None])[..., 0].log()


def logs(target, draft, n, seed):
    """Right."""
    tokens = right(target, draft, n, seed)
    laws = target.laws(target.start(n), tokens[:, :-1])
    return tokens, laws.gather(2, tokens[..., None])[..., 0].log()


def by_numpy(target, draft, n, seed):
    """Right, but not drawn with torch."""
    generator = np.random.default_rng(seed)
    return _inversion(target, n, lambda position: torch.from_numpy(generator.random(n)))


def _multinomial(target, n, generators):
    rows = torch.zeros(n, 0, dtype=torch.int64)
    for position in range(target.length):
        law = target.laws(target.start(n), rows)[:, -1]
        rows = torch.cat([rows, torch.multinomial(law, 1, generator=generators(position))], 1)
    ends = (rows == (-1 if target.eos is None else target.eos)).long()
    return rows.where(ends.cumsum(1) <= ends, -1 if target.eos is None else target.eos)


def one_generator(target, draft, n, seed):
    """Right."""
    generator = torch.Generator().manual_seed(seed)
    return _multinomial(target, n, lambda position: generator)


def every_other_step_anew(target, draft, n, seed):
    """Two generators, each made anew in turn."""
    return _multinomial(target, n, lambda position: torch.Generator().manual_seed(seed + position % 2))
