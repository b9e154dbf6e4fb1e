"""How often several drafts keep a token, in closed form: what the rules of `multi_draft` are held against."""

import torch

from specverify.rules.token import residual, total_variation


def recursive_acceptance(p, q, drafts):
    """The chance that recursive rejection keeps one of `drafts` independent draws from q."""
    left, rejected = p, torch.ones_like(p[..., 0])
    for _ in range(drafts):
        rejected = rejected * total_variation(left, q)
        left = residual(left, q)
    return 1 - rejected


def best_acceptance(p, q, drafts):
    """The largest chance of any coupling that a token of law p is among `drafts` independent draws from q.

    It is the least p(S) + 1 - q(S)^drafts over sets S of tokens (max-flow, min-cut), and since that is concave in
    q(S), the least over the sets of tokens with the smallest ratios p/q.
    """
    order = (p / q).where(q > 0, torch.inf).argsort(-1)
    ours, theirs = p.gather(-1, order).cumsum(-1), q.gather(-1, order).cumsum(-1)
    return (ours + 1 - theirs.clamp(max=1) ** drafts).amin(-1).clamp(max=1)


def list_gumbel_bound(p, q, drafts):
    """A lower bound of the chance that the earliest token of `drafts` races under p wins one of them under q.

    The chance that it wins its own: sum_j K / (sum_i max(p_i/p_j, q_i/q_j) + (K - 1) / p_j); for one race it is
    the chance itself (Daliri et al.). Tokens with p_j q_j = 0 contribute nothing. Takes memory vocab^2.
    """
    ratio = torch.maximum(p[..., :, None] / p[..., None, :], q[..., :, None] / q[..., None, :])
    possible = (p > 0) & (q > 0)
    column = ratio.where(possible[..., None, :], 1.0).sum(-2) + (drafts - 1) / p.where(possible, 1.0)
    return (drafts / column).where(possible, 0.0).sum(-1)
