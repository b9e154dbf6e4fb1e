"""The law of what the token rule emits in one round: how many drafts it accepts, which, and the token that follows.

A lossless kernel may follow another rule; these laws are for one that says it follows this one. They hold the law of
the accepted count, of the recovered token given the prefix at which a draft was rejected, and of the bonus token.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int

from specverify.decoders.protocol import Branch
from specverify.subjects.rounds.contexts import Contexts
from specverify.subjects.rounds.play import Played


def law(contexts: Contexts, gamma: int, *, certain: bool) -> Float[torch.Tensor, "contexts blocks"]:
    """The law of the emitted block of a row with gamma drafts, in float64.

    A block of m <= gamma tokens is m - 1 accepted drafts and a recovered token, one of gamma + 1 ends with a bonus.
    Blocks are in order of m, and then of their tokens, the last varying fastest.

    Args:
        contexts: trees of at least gamma + 1 positions.
        gamma: drafts.
        certain: whether q is kept from the kernel; a draft x ~ q is then accepted with probability p(x).
    """
    reached = torch.ones(len(contexts.names), 1, dtype=torch.float64)
    blocks, first = [], 0
    for position in range(gamma + 1):
        nodes = slice(first, first + contexts.tokens**position)
        p, q = (table[:, nodes].double() for table in (contexts.p, contexts.q))
        p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
        kept = p * q if certain else torch.minimum(p, q)
        ends = p if position == gamma else p - kept
        blocks.append((reached[..., None] * ends).flatten(1))
        reached = (reached[..., None] * kept).flatten(1)
        first = nodes.stop
    return torch.cat(blocks, 1)


def counts(played: Played, contexts: Contexts, gamma: int) -> Int[torch.Tensor, "contexts blocks"]:
    """How often each block came out, in rows with gamma drafts of which one round was played.

    A block without a recovered or bonus token, which this rule never emits, counts as the one that has its tokens and
    ends with a recovered one.
    """
    full = played.lengths == gamma
    size = (played.branch[full] != int(Branch.SAMPLED)).sum(1)
    tokens = played.tokens[full]
    code, first = torch.zeros_like(size), torch.zeros_like(size)
    for position in range(gamma + 1):
        inside = position < size
        code = torch.where(inside, code * contexts.tokens + tokens[:, position], code)
        first += torch.where(position + 1 < size, contexts.tokens ** (position + 1), 0)
    blocks = sum(contexts.tokens**m for m in range(1, gamma + 2))
    index = played.context[full] * blocks + first + code
    return torch.bincount(index, minlength=len(contexts.names) * blocks).reshape(-1, blocks)
