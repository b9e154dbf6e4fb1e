"""Where a refuted kernel goes wrong: the first position and prefix, the branch, the token, and which way.

At each position and prefix, what came out is laid beside the target law p, and the part of each branch beside what the
token rule would put there: a draft is accepted and is x with probability min(p, q)(x); once one is rejected, x replaces
it in proportion to (p - q)+(x); a bonus is x with p(x). Without q, a draft x of the testbed's own law q is kept with
probability p(x), so that the parts are q p and (1 - q) p. For a rule of another kind the parts differ without being
wrong, but the position and the prefix still stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from specverify.decoders.protocol import Branch
from specverify.evidence.finite import entropy_tail
from specverify.subjects.rounds.contexts import Contexts
from specverify.subjects.rounds.forced import TOLERANCE, Integrated, Paths
from specverify.subjects.rounds.kernel import KernelPlace, Share
from specverify.subjects.rounds.play import Played

BRANCHES = (Branch.ACCEPTED, Branch.RECOVERED, Branch.BONUS, Branch.SAMPLED)
SUSPICIOUS = 1e-4
"""p-value, over all prefixes of a position, at which it is taken for the first wrong one."""


def from_samples(played: Iterable[Played], contexts: Contexts, context: int, *, certain: bool) -> KernelPlace:
    """Where samples in one context leave the target law."""
    tables = _empty(contexts)
    for part in played:
        rows = part.context == context
        prefix = torch.zeros(int(rows.sum()), dtype=torch.int64)
        for position, table in enumerate(tables):
            token, branch = part.tokens[rows, position], part.branch[rows, position]
            kind = sum((branch == each) * number for number, each in enumerate(BRANCHES))
            code = (prefix * len(BRANCHES) + kind) * contexts.tokens + token
            table += torch.bincount(code, minlength=table.numel()).reshape(table.shape)
            prefix = prefix * contexts.tokens + token

    def doubt(count: Tensor, law: Tensor) -> float:
        n, possible = float(count.sum()), law > 0
        if n == 0 or int(possible.sum()) < 2:
            return 1.0
        information = float(torch.special.xlogy(count, count / (n * law)).nan_to_num(0.0)[possible].sum())
        return entropy_tail(information, int(possible.sum()))

    return {"check": "laws", **_describe(tables, contexts, context, doubt, SUSPICIOUS, certain)}


def from_integral(found: Integrated, where: Paths, context: int, length: int, *, certain: bool) -> KernelPlace:
    """Where the exact law in one context, for one number of drafts, leaves the target law."""
    contexts, tables = where.contexts, _empty(where.contexts)
    tokens = contexts.tokens
    for row in ((where.context == context) & (where.lengths == length)).nonzero().squeeze(1).tolist():
        for outcome in found.flow[row].nonzero().squeeze(1).tolist():
            mass = float(where.weight[row] * found.flow[row, outcome])
            accepted, following = divmod(outcome, tokens + 1)
            emitted = [*where.drafts[row, :accepted].tolist(), *([following - 1] if following else [])]
            node, prefix = 0, 0
            for position, token in enumerate(emitted):
                last = 1 if accepted < length else 2
                tables[position][prefix, 0 if position < accepted else last, token] += mass
                node, prefix = node * tokens + 1 + token, prefix * tokens + token
            _complete(tables, contexts, context, len(emitted), node, prefix, mass)

    def doubt(mass: Tensor, law: Tensor) -> float:
        # Small where the distance is large, as a p-value is.
        distance = float((mass - mass.sum() * law).abs().sum()) / 2
        return TOLERANCE / distance if distance > TOLERANCE else 1.0

    where_wrong = _describe(tables, contexts, context, doubt, 0.999, certain)
    return {"check": "coins integrated", "drafts": length, **where_wrong}


def sentence(location: KernelPlace) -> str:
    """A location in words."""
    if "token" not in location:
        return (
            f"at position {location['position']} {location['where']} come {location['direction']}: "
            f"{location['observed']:.4g} of all, {location['expected']:.4g} expected"
        )
    return (
        f"in context '{location['context']}', position {location['position']} after {location['prefix']}, the "
        f"{location['branch']} token {location['token']} comes {location['direction']}: "
        f"{location['observed']:.4g} of what arrives there, {location['expected']:.4g} expected"
    )


def _empty(contexts: Contexts) -> list[Tensor]:
    """For each position the mass by prefix, branch and token."""
    shape = (len(BRANCHES), contexts.tokens)
    return [torch.zeros(contexts.tokens**position, *shape, dtype=torch.float64) for position in range(contexts.depth)]


def _complete(
    tables: Sequence[Tensor], contexts: Contexts, context: int, position: int, node: int, prefix: int, mass: float
) -> None:
    if position == contexts.depth:
        return
    for token, chance in enumerate(contexts.p[context, node].tolist()):
        if (share := mass * chance) > 0:
            tables[position][prefix, 3, token] += share
            below = node * contexts.tokens + 1 + token, prefix * contexts.tokens + token
            _complete(tables, contexts, context, position + 1, *below, share)


def _describe(
    tables: Sequence[Tensor],
    contexts: Contexts,
    context: int,
    doubt: Callable[[Tensor, Tensor], float],
    threshold: float,
    certain: bool,
) -> KernelPlace:
    best: tuple[float, int, int] | None = None
    first = 0
    for position, table in enumerate(tables):
        reached = table.sum((1, 2)).nonzero().squeeze(1).tolist() or [0]
        doubts = {
            prefix: doubt(table[prefix].sum(0), contexts.p[context, first + prefix].double()) for prefix in reached
        }
        prefix = min(doubts, key=doubts.__getitem__)
        if best is None or doubts[prefix] < best[0]:
            best = (doubts[prefix], position, prefix)
        if doubts[prefix] * len(doubts) <= threshold:
            best = (doubts[prefix], position, prefix)
            break
        first += len(table)
    assert best is not None  # contexts have at least one position
    _, position, prefix = best
    node = sum(contexts.tokens**earlier for earlier in range(position)) + prefix
    p, q = contexts.p[context, node].double(), contexts.q[context, node].double()
    table = tables[position][prefix][:3]
    verified, rejected, bonus = float(table[:2].sum()), float(table[1].sum()), float(table[2].sum())
    total = max(float(table.sum()), 1e-300)
    kept = q * p if certain else torch.minimum(p, q)
    left = p - kept if bool((p > kept).any()) else p
    # As many as were rejected, so that a wrong test of the drafts does not show as a wrong recovered law.
    expected = torch.stack([verified * kept, rejected * left / left.sum(), bonus * p]) / total
    excess = table / total - expected
    shares: list[Share] = [
        {"branch": each.name.lower(), "came": (table[number] / total).tolist(), "due": expected[number].tolist()}
        for number, each in enumerate(BRANCHES[:3])
        if float(table[number].sum()) > 0
    ]
    branch, token = divmod(int(excess.abs().argmax()), contexts.tokens)
    return {
        "context": contexts.names[context],
        "position": position,
        "prefix": [
            int(contexts.ids[prefix // contexts.tokens**k % contexts.tokens]) for k in reversed(range(position))
        ],
        "branch": BRANCHES[branch].name.lower(),
        "token": int(contexts.ids[token]),
        "direction": "too often" if float(excess[branch, token]) > 0 else "too rarely",
        "observed": float(table[branch, token]) / total,
        "expected": float(expected[branch, token]),
        "split": {each.name.lower(): float(excess[number].abs().sum()) / 2 for number, each in enumerate(BRANCHES[:3])},
        "arrived": float(table.sum()),
        "ids": contexts.ids.tolist(),
        "p": p.tolist(),
        "q": None if certain else q.tolist(),
        "came": (table.sum(0) / total).tolist(),
        "shares": shares,
    }
