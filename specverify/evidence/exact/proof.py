"""One proof: a decoder in a box, of a vocabulary, a length and a window, for every law there is of these sizes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from specverify.decoders.registry import Settings
from specverify.errors import BudgetError
from specverify.evidence.budget import Budget
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.follow import Followed, follow
from specverify.evidence.exact.goals import Lossless, of_box
from specverify.evidence.exact.numbers import Numbers, OutOfReach
from specverify.seeds import derived_seed
from toymodels.tables import TableModel

LOSSLESS = Lossless()
BITS = 40
"""A proof is one if its error is at most 2^-BITS."""
SMALL = Budget(worlds=200_000, rows=4096)
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
        seconds: of processor time.
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
    seconds: float = 0.0

    @property
    def proved(self) -> bool:
        """Whether it holds for all laws."""
        return self.outcome == "proved"


def prove(
    build: Callable[[Settings], Any], box: Box, seed: int = 0, budget: Budget = SMALL, goal: Lossless | None = None
) -> Proof:
    """Try to prove that a decoder is lossless for every law of a box, or keeps to what else is its goal.

    The laws of target and draft model are any: after each prefix another, with zeros wherever they like.

    Args:
        build: makes the decoder; it may refuse the settings with InputError.
        box: the sizes.
        seed: of the prime, the point and the symbols.
        budget: how much it may take.
        goal: what its law must be; by default the box's.
    """
    goal = of_box(box) if goal is None else goal
    start = time.process_time()
    numbers = Numbers(derived_seed(seed, box.vocab, box.length, box.window or 0))
    target, drafts, settings = at_point(box, seed, goal)
    try:
        # The tables are what the models answer from.
        tables = [(model._rows, model.table) for model in (target, drafts)]
        came = follow(lambda: build(settings), target, tables, numbers, budget, goal, drafts)
    except OutOfReach as error:
        found = Proof(box, "out of reach", str(error), seed, numbers.field.prime)
    except BudgetError as error:
        found = Proof(box, "too large", str(error), seed, numbers.field.prime)
    except Exception as error:  # whatever it says: it was not followed to the end
        text = " ".join(f"it raised {type(error).__name__}: {error}".split())[:_LONGEST]
        found = Proof(box, "out of reach", text, seed, numbers.field.prime)
    else:
        found = _judged(box, seed, numbers, came)
    return replace(found, seconds=time.process_time() - start)


def at_point(box: Box, seed: int, goal: Lossless) -> tuple[TableModel, TableModel, Settings]:
    """Target, draft model and settings at the real point of a proof, where floats can be enumerated, too."""
    target, drafts = _model(box, "free", derived_seed(seed, 0), goal), _model(box, "free-drafts", derived_seed(seed, 1))
    settings = Settings(draft_model=drafts if box.drafts else None, judging=goal.judging)
    settings = settings if box.window is None else replace(settings, window=box.window)
    return target, drafts, settings if box.initial is None else replace(settings, initial=box.initial)


def _judged(box: Box, seed: int, numbers: Numbers, came: Followed) -> Proof:
    differing = came.differing
    outcome: Outcome = "differs" if differing else "proved"
    why = f"{len(differing)} of {len(came.due)} sequences have another chance at a random point" if differing else ""
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
    )


def _model(box: Box, name: str, seed: int, goal: Lossless = LOSSLESS) -> TableModel:
    """A model with a law after every prefix that is like no other: the real point."""
    generator = torch.Generator().manual_seed(seed)
    return TableModel(name, goal.rows(box.vocab, box.length, generator), box.length, eos=box.eos)
