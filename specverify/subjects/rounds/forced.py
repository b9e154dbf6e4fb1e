"""Kernels whose coins are an argument: the exact law by integrating over all coins. (`edges.py`: coins at the edges.)

Given the drafts, the outcome is a function of the coins, taken to be constant but for a few steps. Along
each axis these are found by evaluating it at `GRID` places and dividing on between neighbours that differ, down to
`STEP`. Nested over the coins of two drafts and the pick, this gives the law of the outcome, and with the draft law and
the completion the exact law of the sequence. It cannot see a feature that begins and ends between two neighbouring
places, nor a difference below `TOLERANCE`, to which the steps' places add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify import tree
from specverify.rules.token import at
from specverify.subjects.rounds.calls import bounded
from specverify.subjects.rounds.contexts import Contexts, deal
from specverify.subjects.rounds.kernel import Kernel, Round
from specverify.subjects.rounds.play import indices

STEP = 2.0**-18
"""How closely steps of the outcome are located."""
TOLERANCE = 32 * STEP
"""Total variation that their places may leave."""
GRID = 10
PARTS = 4
"""Into how many parts a stretch that holds a step is divided at a time."""
MOST_STEPS = 16
"""Steps along one axis beyond which the outcome is not taken to be piecewise constant."""


@dataclass(frozen=True)
class Paths:
    """All drafts that can come up, one row for each.

    Attributes:
        contexts: where.
        context: Int[rows], index of the row's context.
        lengths: Int[rows].
        drafts: Int[rows, most], tokens; 0 beyond the row's length.
        slots: Int[rows, coins], of which slots the coins are forced; all others are 1/2.
        weight: Float[rows], their probability under q, given the length.
        given: the round that judges them all.
    """

    contexts: Contexts
    context: Int[Tensor, " rows"]
    lengths: Int[Tensor, " rows"]
    drafts: Int[Tensor, "rows drafts"]
    weight: Float[Tensor, " rows"]
    slots: Int[Tensor, "rows coins"]
    given: Round


def paths(kernel: Kernel, contexts: Contexts, gamma: int, most: int, *, certain: bool) -> Paths:
    """Every context, every number of drafts up to `most`, and all drafts that q gives some probability.

    Args:
        gamma: slots for drafts.
        most: the most drafts of a row: each is an axis of the integration, and the pick is one more.
        certain: keep q from the kernel.
    """
    found = _paths(contexts, gamma, range(kernel.fewest, most + 1), certain=certain)
    return replace(found, slots=torch.arange(most).expand(len(found.lengths), -1))


def long_paths(contexts: Contexts, gamma: int) -> Paths:
    """Every context, `gamma` drafts, and coins for those slots alone at which q has a choice: as many in each context.

    For `edges`: whatever the other coins are, what the target law forbids may not come. An integral over these coins is
    the law of nothing, as the others may decide as well (block verification's do).
    """
    found = _paths(contexts, gamma, (gamma,), certain=False)
    assert found.given.q is not None  # it is not kept from the kernel
    choice = found.given.q.amax(-1) < 1
    return replace(found, slots=choice.nonzero()[:, 1].reshape(len(choice), -1))


def _paths(contexts: Contexts, gamma: int, lengths: Sequence[int], *, certain: bool) -> Paths:
    rows = [
        (context, length, drafts, weight)
        for context, length in product(range(len(contexts.names)), lengths)
        for drafts, weight in _drafts(contexts, context, length)
    ]
    index, length = (torch.tensor([row[i] for row in rows]) for i in (0, 1))
    padded = torch.tensor([[*row[2], *[0] * (gamma - row[1])] for row in rows])
    given, _ = deal(contexts, index, torch.zeros_like(index), padded, length, certain=certain)
    weights = torch.tensor([row[3] for row in rows], dtype=torch.float64)
    return Paths(contexts, index, length, padded[:, : max(lengths)], weights, torch.zeros(len(rows), 0).long(), given)


def _drafts(contexts: Contexts, context: int, length: int) -> list[tuple[tuple[int, ...], float]]:
    """All drafts that q gives some probability, with it."""
    found: list[tuple[tuple[int, ...], int, float]] = [((), 0, 1.0)]
    for _ in range(length):
        found = [
            ((*drafts, token), node * contexts.tokens + 1 + token, weight * chance)
            for drafts, node, weight in found
            for token, chance in enumerate(contexts.q[context, node].tolist())
            if chance > 0
        ]
    return [(drafts, weight) for drafts, _, weight in found]


@dataclass(frozen=True)
class Integrated:
    """The exact law of what a kernel emits, completed to the depth of the contexts.

    Attributes:
        law: Float[contexts, lengths, sequences]; row l is for `fewest + l` drafts.
        flow: Float[rows, outcomes], the law of the outcome of each row of the paths. Outcome a (V + 1) + b is a drafts
            accepted, and then token b - 1, or none if b is 0.
        evaluations: rows that the kernel judged.
        steps: the most steps found along one axis.
    """

    law: Float[Tensor, "contexts lengths sequences"]
    flow: Float[Tensor, "rows outcomes"]
    evaluations: int
    steps: int


@torch.no_grad()
def integrate(kernel: Kernel, where: Paths) -> Integrated | None:
    """The exact law, or None where the outcome is not piecewise constant in the coins."""
    search = _Search(kernel, where)
    try:
        flow = search.law(torch.arange(len(where.lengths)), torch.zeros(len(where.lengths), 0, dtype=torch.int64))
    except _Irregular:
        return None
    contexts, joint = where.contexts, where.contexts.joint()
    tokens, depth = contexts.tokens, contexts.depth
    fewest, most = int(where.lengths.min()), int(where.lengths.max())
    law = torch.zeros(len(contexts.names), most - fewest + 1, tokens**depth, dtype=torch.float64)
    for row, outcome in flow.nonzero().tolist():
        accepted, token = divmod(outcome, tokens + 1)
        prefix = [*where.drafts[row, :accepted].tolist(), *([token - 1] if token else [])]
        start, size = 0, tokens**depth
        for emitted in prefix:
            size //= tokens
            start += emitted * size
        rest = joint[where.context[row], start : start + size]
        # What is forbidden has no continuation; any will do to count it.
        rest = rest / rest.sum() if float(rest.sum()) > 0 else torch.full_like(rest, 1 / size)
        share = where.weight[row] * flow[row, outcome]
        law[where.context[row], where.lengths[row] - fewest, start : start + size] += share * rest
    return Integrated(law, flow, search.evaluations, search.steps)


class _Irregular(Exception):
    """The outcome has more steps along an axis than `MOST_STEPS`."""


class _Search:
    """Nested integration over the axes (coin of each draft, then the pick), for many rows at once."""

    def __init__(self, kernel: Kernel, where: Paths) -> None:
        self.kernel, self.where, self.axes = kernel, where, where.slots.shape[1] + 1
        self.width = (where.drafts.shape[1] + 1) * (where.contexts.tokens + 1)
        self.evaluations = self.steps = 0
        last = round(1 / STEP) - 1
        # Irregular, so that no regular feature of a kernel falls between its places throughout.
        inner = [round(last * (k + 0.31 + 0.07 * (k % 3)) / (GRID - 2)) for k in range(GRID - 2)]
        self.grid = torch.tensor([0, *inner, last])

    def law(self, rows: Tensor, fixed: Tensor) -> Float[Tensor, "rows outcomes"]:
        """The law of the outcome with the first axes fixed, Int[rows, axes] in units of STEP."""
        innermost = fixed.shape[1] == self.axes - 1
        result = torch.zeros(len(rows), self.width, dtype=torch.float64)

        def ask(index: Tensor, place: Tensor) -> Tensor:
            """What the outcome is (one number), or its law, with the next axis fixed as well."""
            more = torch.cat([fixed[index], place[:, None]], 1)
            return self._outcomes(rows[index], more)[:, None] if innermost else self.law(rows[index], more)

        def add(index: Tensor, value: Tensor, size: Tensor) -> None:
            if innermost:
                result.view(-1).index_add_(0, index * self.width + value[:, 0], size * STEP)
            else:
                result.index_add_(0, index, value * (size * STEP)[:, None])

        every = torch.arange(len(rows))
        places = len(self.grid)
        value = ask(every.repeat_interleave(places), self.grid.repeat(len(rows))).unflatten(0, (-1, places))
        add(every, value[:, -1], torch.ones(len(rows), dtype=torch.float64))  # no stretch begins at the last place
        # A stretch goes from one place up to the next.
        index = every.repeat_interleave(places - 1)
        low, high = self.grid[:-1].repeat(len(rows)), self.grid[1:].repeat(len(rows))
        at_low, at_high = value[:, :-1].flatten(0, 1), value[:, 1:].flatten(0, 1)
        while len(index):
            known = (at_low == at_high).all(1) | (high - low <= 1)
            add(index[known], at_low[known], (high - low)[known].double())
            index, low, high, at_low, at_high = (x[~known] for x in (index, low, high, at_low, at_high))
            if len(index):
                self.steps = max(self.steps, int(torch.bincount(index).max()))
                if self.steps > MOST_STEPS:
                    raise _Irregular
            inner = [low + (high - low) * part // PARTS for part in range(1, PARTS)]
            between = ask(index.repeat(PARTS - 1), torch.cat(inner)) if len(index) else at_low
            index, low, high = index.repeat(PARTS), torch.cat([low, *inner]), torch.cat([*inner, high])
            at_low, at_high = torch.cat([at_low, between]), torch.cat([between, at_high])
        return result

    def _outcomes(self, rows: Tensor, fixed: Tensor) -> Int[Tensor, " rows"]:
        """accepted (V + 1) + (0 for no further token, else 1 + token), with all axes fixed."""
        given = tree.rows(self.where.given, rows)
        # Half a step in, so that a coin is never equal to a threshold that is a multiple of STEP.
        value = ((fixed.double() + 0.5) * STEP).float()
        coin = torch.full(given.draft.shape, 0.5).scatter(1, self.where.slots[rows], value[:, :-1])
        outcome = bounded(self.kernel, given, coin, value[:, -1].contiguous())
        self.evaluations += len(rows)
        following = at(indices(outcome, self.where.contexts), outcome.accepted)
        return outcome.accepted * (self.where.contexts.tokens + 1) + 1 + following
