"""Schedulers' verifications: speculative Jacobi decoding, right, and three slips of it."""

import torch


def sjd(ids, logits, q):
    """Each draft stays with probability p / q; the first that does not is drawn from what p has more than q."""
    return _window(ids, logits.softmax(-1), q)


def coupled_as_released(ids, logits, q):
    """Drafts behind the cut are coupled with the old ones, and labelled with the law that those had."""
    p = logits.softmax(-1)
    matched, tokens, scores = _window(ids, p, q)
    for slot in range(matched, ids.shape[1] - 1):
        old = ids[0, slot + 1]
        if torch.rand(()) < p[0, slot, old] / q[0, slot + 1, old]:
            tokens[0, slot], scores[0, slot] = old, q[0, slot + 1]
        else:
            tokens[0, slot] = _draw((p[0, slot] - q[0, slot + 1]).clamp(min=0))
    return matched, tokens, scores


def rewarped_residual(ids, logits, q, temperature=0.5):
    """A temperature, that shapes the residual once more."""
    p = (logits / temperature).softmax(-1)
    return _window(ids, p, q, lambda rest: rest ** (1 / temperature))


def kept_from_elsewhere(ids, logits, q):
    """A right window, if it were not for what it keeps from call to call."""
    kept_from_elsewhere.calls += 1
    return _window(ids, logits.softmax(-1) if kept_from_elsewhere.calls % 3 else logits * 0 + 1 / q.shape[-1], q)


kept_from_elsewhere.calls = 0


def _window(ids, p, q, warp=lambda rest: rest):
    drafts, scores = ids.shape[1] - 1, p.clone()
    tokens = torch.zeros_like(ids)
    matched = drafts + 1
    for slot in range(drafts):
        draft = ids[0, slot + 1]
        if torch.rand(()) < p[0, slot, draft] / q[0, slot + 1, draft]:
            tokens[0, slot] = draft
        else:
            tokens[0, slot] = _draw(warp((p[0, slot] - q[0, slot + 1]).clamp(min=0)))
            matched = slot + 1
            break
    for slot in range(matched - (matched > drafts), drafts + 1):
        tokens[0, slot] = _draw(p[0, slot])
    return matched, tokens, scores


def _draw(weights):
    return torch.multinomial(weights, 1)[0]
