"""Kernels whose coins are an argument: coins at the edges, where rounding and ties decide.

Every combination of coins at 0, one step above, at each ratio p / q and one step to either side, and one step below 1,
with picks at the edges of the recovered and bonus laws. No rule may then emit what the target law forbids, however
rarely such a coin comes up. Which of two possible tokens a pick at their common edge brings is a matter of rounding,
and is left to the kernel; `forced.py` sees edges that are far from where they belong.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from specverify import tree
from specverify.rules.token import at, residual
from specverify.subjects.rounds.calls import bounded
from specverify.subjects.rounds.forced import Paths
from specverify.subjects.rounds.kernel import NONE, Fault, Kernel, KernelPlace, ShownRow
from specverify.subjects.rounds.play import forbidden, indices, sources
from specverify.verdict import Kind

ULP = 2.0**-24
"""The step of a float32 coin."""


@torch.no_grad()
def edges(kernel: Kernel, where: Paths) -> str:
    """Coins at the edges.

    Returns:
        what the kernel does with a coin that equals the ratio, for a note.

    Raises:
        Fault: if a coin makes it emit a token that the target law forbids.
    """
    given, contexts = where.given, where.contexts
    rows, gamma = given.draft.shape
    p, draft = given.p[:, :-1], given.draft
    q = torch.zeros_like(p).scatter(-1, draft[..., None], 1.0) if given.q is None else given.q
    ratio = (at(p, draft) / at(q, draft)).clamp(max=1)
    law = torch.cat([residual(p, q), given.p], 1).cumsum(-1).flatten(1)
    coins = [torch.full_like(ratio, 0.0), torch.full_like(ratio, ULP), ratio - ULP, ratio, ratio + ULP, ratio * 0 + 1]
    picks = torch.cat([law, law - ULP, torch.zeros(rows, 1), torch.ones(rows, 1)], 1)
    several = list(product(range(len(coins)), repeat=where.slots.shape[1]))
    index = torch.arange(rows).repeat_interleave(len(several) * picks.shape[1])
    coin = torch.stack([in_range(each) for each in coins])  # kinds rows gamma
    kinds = torch.tensor(several).repeat_interleave(picks.shape[1], 0).repeat(rows, 1)
    chosen = torch.full((len(index), gamma), 0.5)
    for kind, forced in zip(kinds.unbind(1), where.slots[index].unbind(1), strict=True):
        chosen.scatter_(1, forced[:, None], coin[kind, index, forced][:, None])
    pick = in_range(picks).repeat_interleave(len(several), 0).reshape(rows, len(several), -1).flatten()
    outcome = bounded(kernel, tree.rows(given, index), chosen, pick)

    node = torch.zeros_like(index)
    context, block = where.context[index], indices(outcome, contexts)
    branch = sources(outcome, where.lengths[index])
    for slot in range(min(contexts.depth, block.shape[1])):
        emitted = outcome.tokens[:, slot] != NONE
        token = block[:, slot].clamp(min=0)
        bad = emitted & (at(contexts.law(contexts.p, context, node), token) == 0)
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            name = contexts.names[int(context[row])]
            fault = forbidden(tree.rows(given, index), outcome, row, slot, name, int(branch[row, slot]), "")
            assert fault.certificate is not None
            assert fault.location is not None
            tossed, last = chosen[row].tolist(), float(pick[row])
            row_shown: ShownRow = {**fault.certificate, "coins": tossed, "pick": last}
            place: KernelPlace = {**fault.location, "check": "forced coins", "coins": tossed, "pick": last}
            words = f"with coins {shown(chosen[row])} and pick {shown(pick[row : row + 1])}, "
            raise Fault(Kind.REFUTED, words + str(fault), row_shown, place)
        node = torch.where(emitted, contexts.child(node, token), node)
    tried = where.slots[index, 0]
    first = ratio[index, tried]
    equal = (kinds[:, 0] == 3) & (where.lengths[index] > tried) & (first > 0) & (in_range(first) == first)
    kept = outcome.accepted[equal] > tried[equal]
    does = "accepts" if bool(kept.all()) else "accepts or rejects" if bool(kept.any()) else "rejects"
    return f"a coin that equals p / q {does}"


def in_range(coin: Tensor) -> Tensor:
    """On the grid of float32 coins, within [0, 1)."""
    return ((coin / ULP).round() * ULP).clamp(0, 1 - ULP)


def shown(values: Tensor) -> str:
    """Coins in words."""
    return ", ".join("1 - 2^-24" if value == 1 - ULP else f"{float(value):.9g}" for value in values)
