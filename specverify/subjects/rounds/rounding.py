"""Sums that rounding leaves short: coins at the edges over vocabularies of up to 32,000 tokens.

A kernel that inverts the distribution function adds up a law in float32. The sum may end below 1, and below the largest
coin: then whatever comes after the last edge is emitted, the last id as a rule, or the first. Here the laws forbid
those ids, their sums end as low as such laws' do (and as high), and picks lie at 0, at the last coins below 1, and at
edges inside. A token that the target law forbids is a fault; which of two possible ones is left to rounding.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from specverify.rules.token import at
from specverify.subjects.rounds.calls import bounded
from specverify.subjects.rounds.edges import ULP, in_range, shown
from specverify.subjects.rounds.kernel import NONE, Fault, Kernel, Round, ShownRow
from specverify.subjects.rounds.play import forbidden, sources
from specverify.verdict import Kind
from toymodels.hashing import branches, high_bits, seed

SIZES = (8, 64, 1024, 32_000)
CANDIDATES = {8: 256, 64: 256, 1024: 64, 32_000: 8}
"""Laws of each shape among which those with the lowest and the highest sums are chosen."""
PICKS = {8: 24, 64: 24, 1024: 16, 32_000: 4}
"""Picks at edges inside, beside those at the ends."""
ENDS = ("the last id", "the first id", "the last and the first id")


@torch.no_grad()
def sums(kernel: Kernel, gamma: int) -> str:
    """Play all of them.

    Returns:
        what was played, for a note.

    Raises:
        Fault: if a coin makes the kernel emit a token that the target law forbids.
    """
    coins = 0
    for size in SIZES:
        for end in ENDS:
            coins += _play(kernel, gamma, laws(size, end), end)
    return f"{coins:,} forced coins over up to {SIZES[-1]:,} tokens, whose last or first is forbidden"


def laws(size: int, end: str) -> Float[Tensor, "laws vocab"]:
    """Of each shape (flat, falling, peaked) two laws whose float32 sums end lowest, and one whose sum ends highest."""
    ids = torch.arange(size)
    banned = ((ids == size - 1) & (end != ENDS[1])) | ((ids == 0) & (end != ENDS[0]))
    hashes = branches(branches(torch.tensor(seed(f"sums: {size}, {end}")), CANDIDATES[size]), size)
    level = high_bits(hashes, 20).float() / 2**20
    shapes = (level, 6 * level - 16 * ids / size, 12 * level)
    chosen = []
    for logits in shapes:
        law = logits.masked_fill(banned, -torch.inf).softmax(-1)
        again = law / law.sum(-1, keepdim=True)  # kernels normalise once more
        order = torch.maximum(law.double().sum(-1), again.double().sum(-1)).argsort()
        chosen.append(law[order[[0, 1, -1]]])
    return torch.cat(chosen)


def _play(kernel: Kernel, gamma: int, law: Float[Tensor, "laws vocab"], end: str) -> int:
    """Every law as what follows no draft, an accepted one, and two rejected ones."""
    size = law.shape[1]
    picks = torch.cat([_picks(each, PICKS[size]) for each in law])
    each = torch.arange(len(law)).repeat_interleave(len(picks) // len(law))
    banned = int((law[0] == 0).nonzero()[0])
    sure = one_hot(law.argmax(-1), size).float()
    never = one_hot(torch.tensor(banned), size).float().expand_as(law)
    some = (0.25 * never + 0.75 * law.flip(0)).contiguous()
    for length, first, q, draft in (
        (0, law, never, torch.full((len(law),), banned)),
        (1, sure, sure, law.argmax(-1)),
        (1, law, never, torch.full((len(law),), banned)),
        (1, law, some, torch.full((len(law),), banned)),
    ):
        if length < kernel.fewest:
            continue
        p = torch.stack([first, *[law] * gamma], 1)
        given = Round(
            draft=torch.stack([draft, *[law.argmax(-1)] * (gamma - 1)], 1)[each],
            lengths=torch.full((len(each),), length),
            q=torch.stack([q, *[law] * (gamma - 1)], 1)[each],
            p=p[each],
            raw=p[each],
            temperature=torch.ones(len(each)),
            top_k=torch.full((len(each),), size),
        )
        _judge(kernel, given, picks, f"{size:,} tokens, {end} forbidden")
    return 4 * len(each)


def _picks(law: Float[Tensor, " vocab"], inside: int) -> Float[Tensor, " picks"]:
    """At the ends, and at edges: of the law, and of the law cut short."""
    edges = law.double().cumsum(0)
    places = torch.linspace(0, len(law) - 1, inside // 2).long()
    at_edges = torch.cat([edges[places], law.cumsum(0)[places].double() - ULP])
    ends = torch.tensor([0.0, ULP, 1 - 3 * ULP, 1 - 2 * ULP, 1 - ULP], dtype=torch.float64)
    return in_range(torch.cat([ends, at_edges])).float()


def _judge(kernel: Kernel, given: Round, picks: Float[Tensor, " rows"], name: str) -> None:
    coins = torch.full(given.draft.shape, 0.5)
    outcome = bounded(kernel, given, coins, picks)
    slots: Int[Tensor, " slots"] = torch.arange(outcome.tokens.shape[1])
    chance = at(given.p, outcome.tokens.clamp(min=0))
    bad = (outcome.tokens != NONE) & (chance == 0) & (slots <= given.lengths[:, None])
    if bool(bad.any()):
        row, slot = bad.nonzero()[0].tolist()
        branch = int(sources(outcome, given.lengths)[row, slot])
        fault = forbidden(given, outcome, row, slot, name, branch, "")
        assert fault.location is not None
        assert fault.certificate is not None
        pick = float(picks[row])
        total = float(given.p[row, slot].cumsum(0)[-1])
        words = f"with pick {shown(picks[row : row + 1])}, where the float32 sum of p ends at {total:.9g}, "
        raise Fault(
            Kind.REFUTED,
            words + str(fault),
            {**_slots(fault.certificate, slot), "pick": pick, "coins": coins[row].tolist()},
            {**fault.location, "check": "forced coins", "pick": pick},
        )


def _slots(certificate: ShownRow, slot: int) -> ShownRow:
    """A certificate without what lies behind a slot: over large vocabularies that is most of it."""
    q = certificate["q"] and certificate["q"][: slot + 1]
    return {**certificate, "p": certificate["p"][: slot + 1], "q": q}
