"""One proof: a decoder in a box, of a vocabulary, a length and a window, for every law there is of these sizes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from specverify.decoders.registry import Settings
from specverify.errors import BudgetError
from specverify.evidence.budget import Budget
from specverify.evidence.exact.box import Asked, Box
from specverify.evidence.exact.follow import Followed, follow
from specverify.evidence.exact.goals import Lossless, of_box, random_laws
from specverify.evidence.exact.numbers import NeedsOrder, Numbers, OutOfReach, Unsettled
from specverify.evidence.exact.orders import Orders
from specverify.evidence.exact.regions import Sign, TooNarrow, inside, some, vanishing
from specverify.evidence.exact.statement import together
from specverify.seeds import derived_seed
from toymodels.tables import TableModel, prefixes

LOSSLESS = Lossless()
BITS = 40
"""A proof is one if its error is at most 2^-BITS."""
BLUR = 50, 400
"""Machine epsilons by which sums of laws are not 1 at the real point."""
SMALL = Budget(worlds=200_000, rows=4096)
RUN = 100
"""Worlds that a run of an order counts for, beside its own."""
Outcome = Literal["proved", "differs", "out of reach", "too large"]
_LONGEST = 300


@dataclass(frozen=True)
class Proof:
    """What came of trying to prove a decoder in a box.

    Attributes:
        box: the sizes.
        outcome: proved; differs, from the target at the random point, which refutes nothing; out of reach; or too large
            for the budget.
        why: of what is not proved.
        seed, prime: of the run, so that it can be carried out again.
        error_bits: the error is at most 2^-error_bits.
        worlds, numbers, symbols: outcomes that were followed, different numbers, and free symbols for minima.
        assumptions: what was assumed not to be 0, and found to fail in worlds of weight 0 only; how many times.
        compares: whether it compares numbers whose order depends on the laws, or a number with 0 that may be 0 there.
        orders: how many orders of them it was proved for, each by a run of its own.
        seconds: of processor time.
        asked: what of the box was; None of a proof that was written down without it.
    """

    box: Box
    outcome: Outcome
    why: str = ""
    seed: int = 0
    prime: int = 0
    error_bits: float = 0.0
    worlds: int = 0
    numbers: int = 0
    symbols: int = 0
    assumptions: int = 0
    compares: bool = False
    orders: int = 0
    seconds: float = 0.0
    asked: Asked | None = None

    @property
    def proved(self) -> bool:
        """Whether it holds for all laws."""
        return self.outcome == "proved"


def prove(
    build: Callable[[Settings], Any],
    box: Box,
    seed: int = 0,
    budget: Budget = SMALL,
    goal: Lossless | None = None,
    orders: bool = True,
) -> Proof:
    """Try to prove that a decoder is lossless for every law of a box, or keeps to what else is its goal.

    The laws of target and draft model are any: after each prefix another, with zeros wherever they like.

    Args:
        build: makes the decoder; it may refuse the settings with InputError.
        box: the sizes.
        seed: of the prime, the point and the symbols.
        budget: how much it may take.
        goal: what its law must be; by default the box's.
        orders: whether a decoder that compares probabilities, or differs where minima are free symbols, is run for each
            order that they can have, which may be very many; else it is out of reach, or has differed.
    """
    goal = of_box(box) if goal is None else goal
    start = time.process_time()
    numbers = _fresh(box, seed)
    compares = False
    try:
        try:
            found = _run(build, box, seed, budget, goal, numbers)
        except NeedsOrder as error:
            compares = True
            found = replace(_stopped(box, seed, numbers, error), compares=True)
        if orders and goal.any_laws and (compares or found.outcome == "differs"):
            found = _by_orders(build, box, seed, budget, goal, found)
    except OutOfReach as error:  # of any run, whatever others say
        found = replace(_stopped(box, seed, numbers, error), compares=compares)
    return replace(found, seconds=time.process_time() - start)


def _by_orders(
    build: Callable[[Settings], Any], box: Box, seed: int, budget: Budget, goal: Lossless, before: Proof
) -> Proof:
    """One that compares laws, in every order; then so that minima are no free symbols, which may differ where they do.

    Whoever differs and is not proved has differed.
    """
    found = before
    if before.compares:
        found = _in_every_order(build, box, seed, budget, goal, before, eager=False)
        if found.proved or found.outcome == "too large":
            return found
    eager = _in_every_order(build, box, seed, budget, goal, before, eager=True)
    if eager.proved or (before.compares and eager.outcome != "out of reach"):
        return eager
    if found.outcome == "differs" and before.compares:  # as minima are free symbols in orders that are none of theirs
        return replace(found, outcome="out of reach", why=eager.why)
    if found.outcome == "differs" and eager.outcome != "differs":
        return replace(found, why=f"{found.why}, with free symbols for minima; in orders of these: {eager.why}")
    return found


def _run(
    build: Callable[[Settings], Any],
    box: Box,
    seed: int,
    budget: Budget,
    goal: Lossless,
    numbers: Numbers,
    orders: Orders | None = None,
    point: Sequence[float] | None = None,
) -> Proof:
    """One run of a decoder, at the box's own real point or another.

    Raises:
        NeedsOrder: without orders.
        OutOfReach: for what no other run of it would mend.
    """
    target, drafts, settings = at_point(box, seed, goal)
    # The tables are what the models answer from.
    tables = [(model._rows, model.table) for model in (target, drafts)]
    if point is not None:
        _move(tables, point)
    _blur(tables, seed)
    try:
        came = follow(lambda: build(settings), target, tables, numbers, budget, goal, drafts, orders)
    except (Unsettled, BudgetError) as error:
        return _stopped(box, seed, numbers, error)
    except Exception as error:  # whatever it says: it was not followed to the end
        raise OutOfReach(" ".join(f"it raised {type(error).__name__}: {error}".split())[:_LONGEST]) from error
    return _judged(box, seed, numbers, came)


def _in_every_order(
    build: Callable[[Settings], Any],
    box: Box,
    seed: int,
    budget: Budget,
    goal: Lossless,
    before: Proof,
    eager: bool,
) -> Proof:
    """A run for each order that laws can have, as far as the decoder looks at it.

    Whatever is decided in a run is turned round in another, beginning with the first: so all that can come out is gone
    through, who is wrong only where one probability is 0 is seen soon, and what no laws can have is left out for
    certain.
    """
    laws = [range(k, k + box.vocab) for k in range(0, 2 * (prefixes(box.vocab, box.length) + 1) * box.vocab, box.vocab)]
    generator = np.random.default_rng(derived_seed(seed, box.vocab, box.length, 2))
    waiting: deque[tuple[Sign, ...]] = deque([()])
    found: list[Proof] = []
    worlds = 0
    while waiting:
        due = waiting.popleft()
        try:
            point = inside(due, laws, generator)
        except TooNarrow as error:
            if (entry := vanishing(due, laws)) is None:
                return replace(before, outcome="out of reach", why=str(error))
            waiting += [(*due, some([entry])), (*due, some([entry]).opposite)]
            continue
        if point is None:
            continue
        left = replace(budget, worlds=max(budget.worlds - worlds, 1))
        given: tuple[Sign, ...] | None = None
        signs = due
        while given != signs:  # what it computed before it compared is another function once the outcome is known
            given, numbers = signs, _fresh(box, seed)
            orders = Orders(numbers, eager, given)
            proof = _run(build, box, seed, left, goal, numbers, orders, point)
            signs = tuple(orders.signs)
            if proof.proved or proof.outcome == "too large":
                break
        if proof.outcome == "too large":
            proof = replace(proof, why=f"{len(found):,} orders were proved, and of the next {proof.why}")
        if not proof.proved:
            return replace(proof, compares=True, orders=len(found))
        waiting += [(*signs[:place], signs[place].opposite) for place in range(len(due), len(signs))]
        worlds += proof.worlds + RUN
        found.append(proof)
    return _together(found)


def _together(found: Sequence[Proof]) -> Proof:
    """What proofs in all orders come to."""
    bits = together([proof.error_bits for proof in found])
    most = max(found, key=lambda proof: proof.numbers)
    worlds = sum(each.worlds for each in found)
    every = [each.asked for each in found if each.asked is not None]
    asked = Asked(*(max(getattr(each, part.name) for each in every) for part in fields(Asked)))
    proof = replace(most, error_bits=bits, worlds=worlds, compares=True, orders=len(found), asked=asked)
    if bits >= BITS:
        return proof
    return replace(proof, outcome="out of reach", why=f"the error of all orders together may be 2^-{bits:.0f}")


def _fresh(box: Box, seed: int) -> Numbers:
    return Numbers(derived_seed(seed, box.vocab, box.length, box.window or 0))


def _stopped(box: Box, seed: int, numbers: Numbers, error: BaseException) -> Proof:
    outcome: Outcome = "too large" if isinstance(error, BudgetError) else "out of reach"
    return Proof(box, outcome, str(error), seed, numbers.field.prime)


def _move(tables: Sequence[tuple[Tensor, Tensor]], point: Sequence[float]) -> None:
    """Put other laws into the tables of models, those past the end included."""
    values = torch.tensor(point, dtype=torch.float64)
    for whole, own in tables:
        whole.copy_(values[: whole.numel()].reshape(whole.shape))
        own.copy_(whole[: len(own)])
        values = values[whole.numel() :]


def _blur(tables: Sequence[tuple[Tensor, Tensor]], seed: int) -> None:
    """Laws whose sums are 1 but for rounding, to either side: who goes by more than that is seen to."""
    generator = torch.Generator().manual_seed(seed)
    for whole, own in tables:
        ulps = torch.randint(*BLUR, whole.shape[:1], generator=generator)
        sign = torch.randint(0, 2, whole.shape[:1], generator=generator) * 2 - 1
        ulps = (ulps * sign).where((whole > 0).sum(1) > 1, 0)  # one token that is certain is so in floats, too
        whole.mul_(1 + ulps.double()[:, None] * torch.finfo(torch.float64).eps)
        own.copy_(whole[: len(own)])


def at_point(box: Box, seed: int, goal: Lossless) -> tuple[TableModel, TableModel, Settings]:
    """Target, draft model and settings at the real point of a proof, where floats can be enumerated, too."""
    target, drafts = _model(box, "free", derived_seed(seed, 0), goal), _model(box, "free-drafts", derived_seed(seed, 1))
    settings = Settings(draft_model=drafts if box.drafts else None, judging=goal.judging)
    settings = settings if box.window is None else replace(settings, window=box.window)
    return target, drafts, settings if box.initial is None else replace(settings, initial=box.initial)


def _judged(box: Box, seed: int, numbers: Numbers, came: Followed) -> Proof:
    differing = came.differing
    outcome: Outcome = "differs" if differing else "proved"
    every = len(came.law.keys() | came.due.keys())
    why = f"{len(differing)} of {every} sequences have another chance at a random point" if differing else ""
    if not differing and came.error_bits < BITS:
        outcome, why = "out of reach", f"its functions are so large that the error may be 2^-{came.error_bits:.0f}"
    return Proof(
        box=box,
        outcome=outcome,
        why=why,
        seed=seed,
        prime=numbers.field.prime,
        error_bits=came.error_bits,
        worlds=came.worlds,
        numbers=len(numbers),
        symbols=numbers.field.symbols,
        assumptions=len(came.chances.discharged),
        asked=came.asked,
    )


def _model(box: Box, name: str, seed: int, goal: Lossless = LOSSLESS) -> TableModel:
    """A model with a law after every prefix, and past the end, that is like no other: the real point."""
    generator = torch.Generator().manual_seed(seed)
    model = TableModel(name, goal.rows(box.vocab, box.length, generator), box.length, eos=box.eos)
    model._rows[len(model.table) :] = random_laws(1, box.vocab, generator)  # where both models have equals else
    return model
