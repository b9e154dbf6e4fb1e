"""Kernels that are wrong for some batches, some rows or some coins only, and the right ones beside them."""

import torch


def _rule(draft, q, p, lengths, coins, choose, spare=None):
    """The token rule; `choose` draws from what is left, `spare` marks rows that keep all of p."""
    rows, slots = draft.shape
    if q is None:
        q = torch.nn.functional.one_hot(draft, p.shape[-1]).to(p)
    here = [law.gather(2, draft[..., None])[..., 0] for law in (p[:, :slots], q)]
    passes = (coins * here[1] < here[0]) & (torch.arange(slots) < lengths[:, None])
    kept = passes.long().cumprod(1).sum(1)
    row, at = torch.arange(rows), kept.clamp(max=slots - 1)
    left = (p[row, at] - q[row, at]).clamp(min=0)
    if spare is not None:
        left = torch.where(spare[:, None], p[row, at], left)
    return kept, choose(torch.where((kept < lengths)[:, None], left, p[row, kept]))


def _drawing(spare):
    def kernel(draft, q, p, lengths, generator):
        coins = torch.rand(draft.shape, generator=generator)
        marked = spare(lengths, draft.shape[1])
        return _rule(draft, q, p, lengths, coins, lambda law: law.multinomial(1, generator=generator)[:, 0], marked)

    return kernel


def _everywhere(so):
    return lambda lengths, slots: torch.full_like(lengths, bool(so(lengths, slots)), dtype=torch.bool)


right = _drawing(lambda lengths, slots: lengths < 0)
pairs = _drawing(_everywhere(lambda lengths, slots: len(lengths) == 2))
large = _drawing(_everywhere(lambda lengths, slots: len(lengths) > 64))
odd = _drawing(lambda lengths, slots: torch.arange(len(lengths)) % 2 == 1)
last = _drawing(lambda lengths, slots: torch.arange(len(lengths)) == len(lengths) - 1)
level = _drawing(_everywhere(lambda lengths, slots: (lengths == lengths[0]).all()))


def _inverting(total, beyond):
    def kernel(draft, q, p, lengths, coins, pick):
        def choose(law):
            edges = total(law / law.sum(1, keepdim=True))
            over = edges > pick[:, None]
            return torch.where(over.any(1), over.int().argmax(1), beyond(law))

        return _rule(draft, q, p, lengths, coins, choose)

    return kernel


def _sums(law):
    return law.cumsum(1, dtype=torch.float64 if law.dtype in (torch.float16, torch.bfloat16) else law.dtype)


def _last_possible(law):
    return law.shape[1] - 1 - (law.flip(1) > 0).int().argmax(1)


inverts = _inverting(_sums, _last_possible)
falls_to_zero = _inverting(_sums, lambda law: torch.zeros(len(law), dtype=torch.int64))
falls_to_last = _inverting(_sums, lambda law: torch.full((len(law),), law.shape[1] - 1))
half_sums = _inverting(lambda law: law.half().cumsum(1), _last_possible)


def _at(row):
    return lambda lengths, slots: torch.arange(len(lengths)) == row


third = _drawing(_at(2))
seventh = _drawing(lambda lengths, slots: (torch.arange(len(lengths)) == 6) & (len(lengths) < 40))


def _sharpening(size):
    """Now and then a batch of one size prefers what is likely: less than a look of a few rows is sure to see."""

    def kernel(draft, q, p, lengths, generator):
        coins = torch.rand(draft.shape, generator=generator)
        power = 1.8 if len(lengths) == size else 1.0
        return _rule(draft, q, p, lengths, coins, lambda law: (law**power).multinomial(1, generator=generator)[:, 0])

    return kernel


fives = _sharpening(5)


def _far(slot):
    """Drafts from a slot on are kept, whatever the target says."""

    def kernel(draft, q, p, lengths, generator):
        coins = torch.rand(draft.shape, generator=generator)
        coins[:, slot:] = -1
        return _rule(draft, q, p, lengths, coins, lambda law: law.multinomial(1, generator=generator)[:, 0])

    return kernel


keeps_the_seventh, keeps_the_twelfth = _far(6), _far(11)


def _short(most):
    """Made for a few drafts a row: more are refused."""

    def kernel(draft, q, p, lengths, generator):
        if draft.shape[1] > most:
            raise ValueError(f"at most {most} drafts")
        return right(draft, q, p, lengths, generator)

    return kernel


made_for_four = _short(4)


def by_fives(draft, q, p, lengths, coins, pick):
    """Looks at five drafts, with its coins as an argument."""
    near = torch.where(torch.arange(draft.shape[1]) < 5, coins, -1)
    return inverts(draft, q, p, lengths, near, pick)
