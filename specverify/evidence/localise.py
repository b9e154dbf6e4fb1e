"""Where a decoder's law goes wrong: the first position, the prefix, and what each branch has to do with it.

Exact, like the law itself (see `flow.py`). At the place found, the law that came out falls into shares:

    sampled, bonus       due p, whatever share of the worlds they decide
    accepted, recovered  of a judged draft, due what the token rule makes of the drafts that really came: with Q their
                         law, min(p, Q) is accepted and (p - Q)+ recovered, or, where each draft is known for certain
                         once it is made, Q p and p - Q p, whichever is nearer; apart for initial drafts and redrafts
    verified             both together, due p, where the model was not shown the drafts
    ended                worlds that take the sequence to be over

Due shares sum to p, those that came to the law that came, so that the differences are each branch's exact part in the
error. A decoder may be right without the token rule, with shares that differ and cancel; this is asked only of one
whose law is wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TypedDict, cast

import torch
from jaxtyping import Float
from torch import Tensor

from specverify.claims import Claim, ClusterLossless, Lossless
from specverify.errors import InputError
from specverify.evidence.arrange import Arrangement, enumerate_arranged
from specverify.evidence.budget import Budget
from specverify.evidence.flow import Flow, Share, Traced, digits
from specverify.evidence.guard import Guarded
from specverify.evidence.rational import numbers
from specverify.evidence.sequences import target_law
from specverify.model import Model

TOLERANCE = 1e-12
"""Total variation that rounding may leave."""


class ShareRow(TypedDict):
    """A `flow.Share` as plain data."""

    branch: str
    draft: str | None
    came: tuple[float, ...]
    due: tuple[float, ...]
    drafts: tuple[float, ...] | None
    certain: bool


class LocationRow(TypedDict):
    """A `Location` as plain data."""

    position: int
    prefix: tuple[int, ...]
    probability: float
    due: tuple[float, ...]
    came: tuple[float, ...]
    too_often: tuple[int, ...]
    shares: tuple[ShareRow, ...]
    branch: str
    finding: str
    by_position: tuple[float, ...]


@dataclass(frozen=True)
class Location:
    """Where a law goes wrong.

    Attributes:
        position: the first at which the law of the sequence so far is off.
        prefix: the tokens before (clusters, for a cluster claim) after which it is off most.
        probability: of this prefix, under the target law; the decoder's is the same.
        due, came: the law of the next token (or cluster) that is due, and that came out.
        too_often: the tokens that come too often.
        shares: the branches, largest error first.
        branch: the share that would have to be different.
        finding: what is wrong with it, in words.
        by_position: how much each position adds to the total variation of the sequence so far; they sum to it.
    """

    position: int
    prefix: tuple[int, ...]
    probability: float
    due: tuple[float, ...]
    came: tuple[float, ...]
    too_often: tuple[int, ...]
    shares: tuple[Share, ...]
    branch: str
    finding: str
    by_position: tuple[float, ...]

    def to_json(self) -> LocationRow:
        """Plain data."""
        return cast("LocationRow", asdict(self))


def quotient(law: Float[Tensor, " sequences"], claim: Claim, vocab: int) -> tuple[Tensor, int]:
    """The law that a claim is about, and the number of its symbols: of clusters for `ClusterLossless`, else as it is.

    Raises:
        InputError: the partition is of another vocabulary.
    """
    if not isinstance(claim, ClusterLossless):
        return law, vocab
    table, size, member = law[None], len(claim.partition), _member(claim, vocab).to(law)
    while table.shape[1] > 1:
        table = (table.reshape(len(table), vocab, -1).transpose(1, 2) @ member).transpose(1, 2)
        table = table.reshape(-1, table.shape[-1])
    return table[:, 0], size


def localise(
    decoder: Guarded,
    model: Model,
    claim: Claim | None = None,
    arrangement: Arrangement = "together",
    budget: Budget | None = None,
    tolerance: float = TOLERANCE,
) -> Location | None:
    """Where the decoder's law departs from the target's; None if it does not.

    Args:
        decoder: any decoder, guarded.
        model: one that it can be enumerated on.
        claim: only `ClusterLossless` makes a difference: places are then of clusters.
        arrangement: of the rows.
        budget: for the enumeration.
        tolerance: total variation that counts as none.
    """
    claim = claim or Lossless()
    flow = Flow(model)
    law = enumerate_arranged(Traced(decoder), model, arrangement, budget, flow.add).law
    due = target_law(model)
    (came_q, size), (due_q, _) = quotient(law, claim, model.vocab), quotient(due, claim, model.vocab)
    so_far = [0.0]
    for position in range(model.length):
        gap = (came_q - due_q).reshape(size ** (position + 1), -1).sum(1).abs()
        so_far.append(float(gap.sum()) / 2)
    if not so_far[-1] > tolerance:
        return None
    position = next(n for n in range(model.length) if so_far[n + 1] > tolerance / model.length)
    came_next, due_next = (x.reshape(size**position, size, -1).sum(2) for x in (came_q, due_q))
    place = _first_largest((came_next - due_next).abs().sum(1))
    reached = float(due_next[place].sum())
    codes = _inside(place, position, claim, model.vocab)
    came_here, due_here = (x.reshape(model.vocab**position, model.vocab, -1).sum(2)[codes] for x in (law, due))
    member = _member(claim, model.vocab).to(law)
    shares = [
        share
        for share in flow.shares(position, codes, member, came_here, due_here)
        if sum(share.came) > tolerance or share.error > tolerance
    ]
    shares.sort(key=lambda share: -round(share.error, 12))
    symbol = "cluster" if isinstance(claim, ClusterLossless) else "token"
    branch, finding = _verdict(shares, due_next[place] / reached, symbol, tolerance)
    return Location(
        position=position,
        prefix=digits(place, size, position),
        probability=reached,
        due=tuple((due_next[place] / reached).tolist()),
        came=tuple((came_next[place] / reached).tolist()),
        too_often=tuple((came_next[place] > due_next[place] + tolerance).nonzero().squeeze(1).tolist()),
        shares=tuple(shares),
        branch=branch,
        finding=finding,
        by_position=tuple(max(after - before, 0.0) for before, after in itertools.pairwise(so_far)),
    )


def _verdict(shares: Sequence[Share], p: Tensor, symbol: str, tolerance: float) -> tuple[str, str]:
    """The share that would have to be different, and what is wrong with it."""
    worst = shares[0]
    if worst.branch == "ended":
        return worst.name, "the sequence is taken to be over here"
    if worst.branch == "earlier tokens":
        return worst.name, "the tokens before, within their clusters, come with the wrong law"
    if worst.draft is None:
        return worst.name, f"{worst.branch} {symbol}s have the law {_beside(worst, 'p')}"
    kept, replaced = (
        next((s for s in shares if s.branch == branch and s.draft == worst.draft), None)
        for branch in ("accepted", "recovered")
    )
    mass = sum(worst.drafts or ())
    if kept is not None:
        over = [token for token, x in enumerate(kept.came) if x > mass * float(p[token]) + tolerance]
        if over:
            token = over[0]
            allowed, alone = numbers(float(p[token]), kept.came[token] / mass)
            return kept.name, (
                f"where a draft is judged, p gives {symbol} {token} {allowed}, and accepted drafts alone give it "
                f"{alone}: no recovered {symbol} can make up for that"
            )
    if replaced is not None and (
        kept is None
        or (
            replaced.error > kept.error + tolerance
            and sum(replaced.due) > tolerance
            and not _alike(replaced, tolerance)
        )
    ):
        return replaced.name, f"recovered {symbol}s have the law {_beside(replaced, 'the residual')}"
    assert kept is not None
    assert kept.drafts is not None
    off = max(range(len(kept.came)), key=lambda token: abs(kept.came[token] - kept.due[token]))
    of = "draft" if symbol == "token" else "a draft of cluster"
    keeps, due = numbers(kept.came[off] / kept.drafts[off], kept.due[off] / kept.drafts[off])
    if kept.certain and len(set(kept.drafts) - {0.0}) > 1:
        return kept.name, (
            f"{of} {off} is kept with probability {keeps}; as a guess, which has no law of its own, the token rule "
            f"keeps it with probability {due}"
        )
    return kept.name, (
        f"{of} {off} is kept with probability {keeps}; of drafts with the law that these have, "
        f"({', '.join(numbers(*_normed(kept.drafts)))}), the token rule keeps {due}"
    )


def _beside(share: Share, name: str) -> str:
    shown = numbers(*_normed(share.came), *_normed(share.due))
    half = len(shown) // 2
    return f"({', '.join(shown[:half])}); due is {name}, ({', '.join(shown[half:])})"


def _alike(share: Share, tolerance: float) -> bool:
    """Whether only the share's mass is wrong, not its law."""
    pairs = zip(_normed(share.came), _normed(share.due), strict=True)
    return sum(abs(a - b) for a, b in pairs) / 2 <= tolerance


def _normed(law: Sequence[float]) -> list[float]:
    total = sum(law)
    return [x / total for x in law] if total > 0 else list(law)


def _first_largest(values: Tensor) -> int:
    """The first of those that are largest up to rounding."""
    return int((values >= values.max() * (1 - 1e-9)).nonzero()[0])


def _inside(place: int, position: int, claim: Claim, vocab: int) -> list[int]:
    """The ranks of the token prefixes that a prefix stands for."""
    if not isinstance(claim, ClusterLossless):
        return [place]
    codes = [0]
    for cluster in digits(place, len(claim.partition), position):
        codes = [code * vocab + token for code in codes for token in claim.partition[cluster]]
    return codes


def _member(claim: Claim, vocab: int) -> Tensor:
    """Which symbol each token is, as 0 and 1."""
    if not isinstance(claim, ClusterLossless):
        return torch.eye(vocab)
    covered = sum(map(len, claim.partition))
    if covered != vocab:
        raise InputError(f"the partition covers {covered} tokens, but the vocabulary has {vocab}")
    member = torch.zeros(vocab, len(claim.partition))
    for column, cluster in enumerate(claim.partition):
        member[list(cluster), column] = 1
    return member
