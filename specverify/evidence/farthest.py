"""The largest distance that a decoder's law can be brought to: a climb over models, drafts, lengths and windows.

A search for a counterexample stops at the first case that is off by enough. What a relaxed decoder may do at worst, and
how bad a defect is, is the other end: from the cases of largest distance so far, and from models without memory, one
thing at a time is changed, and kept where the distance does not fall.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from specverify.claims import Claim
from specverify.deadline import Deadline
from specverify.errors import BudgetError, ContractError, InputError
from specverify.evidence.budget import Budget
from specverify.evidence.cases import SHARP, Case, Space, Weights
from specverify.evidence.found import Outcome
from specverify.evidence.search import SMALL, Build, evaluate
from toymodels import strategies
from toymodels.tables import prefixes

LADDER = {
    2: (
        ((1, 1), (3, 1)),
        ((3, 1), (1, 1)),
        ((1, 3), (3, 1)),
        ((500, 1), (1, 1)),
        ((1, 1), (500, 1)),
        ((2, 3), (500, 1)),
    ),
    3: (((1, 2, 3), (3, 1, 1)), ((1, SHARP, SHARP), (1, 1, 3))),
}
"""Laws p and q to begin with, of two tokens and of three, after every prefix."""


@dataclass(frozen=True)
class Farthest:
    """What came of a climb.

    Attributes:
        outcome: that of largest distance; None if no case could be enumerated.
        tried: cases that were enumerated.
        complete: whether it ended for another reason than time.
    """

    outcome: Outcome | None
    tried: int
    complete: bool


def farthest(
    build: Build,
    space: Space,
    claim: Claim,
    begin: Sequence[Case] = (),
    *,
    seed: int = 0,
    examples: int = 200,
    deadline: Deadline | None = None,
    budget: Budget = SMALL,
    precision: torch.dtype = torch.float64,
) -> Farthest:
    """Look for the case in which the decoder is farthest from the target law, as the claim measures it.

    Args:
        build: makes the decoder.
        space: what the cases stay within: vocabulary, length, windows, initial drafts, whether there is a draft model.
        claim: what it claims; only what it measures makes a difference.
        begin: cases to begin with, besides those of its own.

    Other arguments:
        seed: of the changes.
        examples: cases that are enumerated.
        deadline: when to stop; by default after 20 seconds.
        budget, precision: of each enumeration.
    """
    deadline = deadline or Deadline(20.0)
    budget = replace(budget, deadline=deadline)
    chance = random.Random(seed)
    seen: set[Case] = set()
    best: list[Outcome] = []
    tried = 0

    def measure(case: Case) -> Outcome | None:
        nonlocal tried
        if case in seen:
            return None
        seen.add(case)
        try:
            outcome = evaluate(build, case, claim, budget, precision)
        except (InputError, BudgetError, ContractError):
            return None
        tried += 1
        return outcome

    starts = iter([*begin, *_memoryless(space)])
    for step in range(2 * examples):  # cases that are refused, or met before, count for half
        if deadline.over or tried >= examples:
            break
        start = next(starts, None)
        if start is None and not best:
            break
        # Two thirds of the changes are made to the best, the others to the two behind it.
        case = start or _changed(best[min(len(best) - 1, (0, 0, step % 3)[step % 3])].case, space, chance)
        outcome = measure(case)
        if outcome is not None:
            best = sorted([outcome, *best], key=lambda other: -other.tv)[:3]
    return Farthest(best[0] if best else None, tried, not deadline.over)


def _memoryless(space: Space) -> Iterator[Case]:
    """One law after every prefix, in the longest sequences, in the widest window that lies in them."""
    if space.partition is not None:
        return
    for vocab, pairs in LADDER.items():
        if space.vocab[0] <= vocab <= space.vocab[1]:
            length = max(space.length[1], space.far) if vocab == 2 else space.length[1]
            contexts = prefixes(vocab, length)
            inside = [window for window in space.windows if window is not None and window <= length]
            for p, q in pairs:
                draft = Weights(vocab, length, (q,) * contexts) if space.drafts[-1] else None
                model = Weights(vocab, length, (p,) * contexts)
                yield Case(model, draft, max(inside, default=None), space.initials[0], space.arrangements[0])


def _changed(case: Case, space: Space, chance: random.Random) -> Case:
    """The case with one thing changed."""
    moves = ["window", "initial"] * (len(space.windows) > 1 or len(space.initials) > 1)
    moves += ["laws"] * 4 * isinstance(case.model, Weights)
    moves += ["drafts"] * 4 * isinstance(case.draft, Weights)
    moves += ["longer"] * isinstance(case.model, Weights)
    move = chance.choice(moves or ["window"])
    if move == "laws" and isinstance(case.model, Weights) and space.partition is None:
        return replace(case, model=_reweighted(case.model, chance))
    if move == "drafts" and isinstance(case.draft, Weights):
        return replace(case, draft=_reweighted(case.draft, chance))
    if move == "longer" and isinstance(case.model, Weights) and space.partition is None:
        most = max(space.length[1], space.far) if case.model.vocab == 2 else space.length[1]
        if case.model.length < most:
            draft = _longer(case.draft) if isinstance(case.draft, Weights) else case.draft
            return replace(case, model=_longer(case.model), draft=draft)
    return replace(case, window=chance.choice(space.windows), initial=chance.choice(space.initials))


def _reweighted(model: Weights, chance: random.Random) -> Weights:
    """Other weights after one context, after all that end alike, or everywhere."""
    contexts = model.contexts()
    place = chance.choice(contexts)
    alike = chance.choice(("one", "ending", "all"))
    least = 0 if model.guide is None else 1
    row = tuple(max(least, chance.choice((*strategies.WEIGHTS, SHARP))) for _ in range(model.vocab))
    row = row if any(row) else (1,) * model.vocab
    rows = tuple(
        row if alike == "all" or context == place or (alike == "ending" and context[-1:] == place[-1:]) else old
        for context, old in zip(contexts, model.weights, strict=True)
    )
    return replace(model, weights=rows)


def _longer(model: Weights) -> Weights:
    """The model with one more position, whose laws are those of the prefix without its first token."""
    if model.span is not None and model.length > model.span:
        return replace(model, length=model.length + 1)
    laws = dict(zip(model.contexts(), model.weights, strict=True))
    guides = None if model.guide is None else dict(zip(model.contexts(), model.guide, strict=True))
    longer = [
        *model.contexts(),
        *((*c, t) for c in model.contexts() if len(c) == model.length - 1 for t in range(model.vocab)),
    ]

    def extended(rows: dict[tuple[int, ...], tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
        return tuple(rows.get(context) or rows[context[1:]] for context in longer)

    return replace(
        model,
        length=model.length + 1,
        weights=extended(laws),
        guide=None if guides is None else extended(guides),
    )
