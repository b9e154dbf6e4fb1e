"""Counterexamples: hypothesis draws small cases until a decoder breaks its claim, and shrinks to the simplest.

Nothing is left to chance: the same seed draws the same cases. A search that runs out of time says so, and keeps the
simplest counterexample that it has come to.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, Verbosity, find, settings
from hypothesis.errors import Flaky, HypothesisWarning, NoSuchExample

from specverify.claims import Claim, Relaxed
from specverify.deadline import Deadline
from specverify.decoders.registry import Settings
from specverify.errors import BudgetError, ContractError, DependentRowsError, InputError
from specverify.evidence.arrange import enumerate_arranged
from specverify.evidence.budget import Budget
from specverify.evidence.cases import Case, Space
from specverify.evidence.enumerate import OnStep
from specverify.evidence.found import Counterexample, Outcome
from specverify.evidence.guard import Guarded
from specverify.evidence.localise import TOLERANCE, Location, localise, quotient
from specverify.evidence.relay import Watched
from specverify.evidence.rounding import coarser, floor
from specverify.evidence.sequences import target_law
from specverify.rules.token import total_variation

SMALLER = 400
"""Cases that are enumerated, once there is a counterexample, to make it small."""
KEPT = 3
"""Cases of largest distance that a search hands on."""
LOCALISING = 10.0
"""Seconds that may go by to find out where a law goes wrong."""
Build = Callable[[Settings], object]
"""Makes a decoder for some settings; raises InputError for those that it does not take."""
SMALL = Budget(worlds=200_000)
"""Enough for any drawn case, and for most toys."""


@dataclass(frozen=True)
class Search:
    """What came of a search.

    Attributes:
        counterexample: the simplest; None if there was none.
        tried: different cases that the decoder was run on.
        refused: cases that it did not take, or that were too large.
        complete: whether it ended for another reason than time.
        widest: the cases of largest total variation, largest first, up to `KEPT`.
        dependent: a case in which rows were seen to depend on each other; such cases are no counterexamples.
    """

    counterexample: Counterexample | None
    tried: int
    refused: int
    complete: bool
    widest: tuple[Case, ...] = ()
    dependent: Case | None = None


def evaluate(
    build: Build,
    case: Case,
    claim: Claim,
    budget: Budget = SMALL,
    precision: torch.dtype = torch.float64,
    on_step: OnStep | None = None,
) -> Outcome:
    """Enumerate a decoder in one setting and hold the result against its claim.

    Args:
        build: makes the decoder.
        case: the setting.
        claim: what it claims.
        budget: of the enumeration.
        precision: what the decoder computes in; rounding in it, or in that of the model, is forgiven.
        on_step: see `enumerate_decoder`.

    Raises:
        InputError: the decoder does not take this setting.
        ContractError: it breaks the protocol.
        BudgetError: the case is too large.
    """
    model = case.target()
    decoder = guarded(build, case.settings(model))
    exact = enumerate_arranged(decoder, model, case.arrangement, budget, on_step)
    target = target_law(model)
    (came, _), (due, _) = quotient(exact.law, claim, model.vocab), quotient(target, claim, model.vocab)
    rounding = max(TOLERANCE, floor(coarser(precision, case.dtype), model.length))
    if not isinstance(claim, Relaxed) and float(came[due == 0].sum()) > TOLERANCE:
        rounding = TOLERANCE  # what the target never gives comes of no rounding: 0 is exact in every precision
    bound = rounding + (claim.tv if isinstance(claim, Relaxed) else 0.0)
    return Outcome(case, exact, due, came, float(total_variation(came, due)), rounding, bound, decoder.breach)


def guarded(build: Build, given: Settings) -> Guarded:
    """A decoder of these settings, checked; what its making raises is the decoder's fault."""
    drafts = None if given.draft_model is None else Watched(given.draft_model)
    try:
        decoder = build(replace(given, draft_model=drafts))
    except (InputError, ContractError):
        raise
    except Exception as error:
        raise ContractError(f"making the decoder raised {type(error).__name__}: {error}") from error
    return Guarded(decoder, drafts)


def explain(
    build: Build, case: Case, claim: Claim, budget: Budget = SMALL, precision: torch.dtype = torch.float64
) -> Counterexample | Outcome:
    """The counterexample that a case is, with where it goes wrong; where the claim holds, just what came out.

    Raises:
        InputError, BudgetError: as `evaluate`.
    """
    try:
        outcome = evaluate(build, case, claim, budget, precision)
        if not outcome.fails:
            return Counterexample(case, claim, "error", error=outcome.breach) if outcome.breach else outcome
        model = case.target()
        decoder = guarded(build, case.settings(model))
        # States carry their trail here, so that there are more worlds than the budget was made for.
        larger = Budget(budget.worlds * 20, budget.rows, Deadline(LOCALISING), budget.pace)
        location = _localised(decoder, model, claim, case.arrangement, larger, outcome.rounding)
        return Counterexample(case, claim, "law", outcome, location)
    except ContractError as error:
        return Counterexample(case, claim, "error", error=str(error))


def _localised(*arguments: Any) -> Location | None:
    try:
        return localise(*arguments)
    except BudgetError:  # only for the largest toys, and slow decoders; the law is refuted all the same
        return None


def search(
    build: Build,
    space: Space,
    claim: Claim,
    *,
    seed: int = 0,
    examples: int = 200,
    deadline: Deadline | None = None,
    budget: Budget = SMALL,
    precision: torch.dtype = torch.float64,
    problems: tuple[str, ...] = ("law", "error"),
) -> Search:
    """Look for the simplest case in which the decoder breaks its claim, or breaks down.

    Args:
        build: makes the decoder.
        space: what cases are drawn from.
        claim: what it claims.

    Other arguments:
        seed: of the cases.
        examples: how many are drawn before giving up; shrinking takes more.
        deadline: when to stop, drawing or shrinking; by default after 20 seconds.
        budget, precision: of each enumeration.
        problems: what counts; the first kind found is then kept to.
    """
    deadline = deadline or Deadline(20.0)
    within = replace(budget, deadline=deadline)
    known: dict[Case, str] = {}
    distances: dict[Case, float] = {}
    wanted = set(problems)
    late = False
    last: int | None = None

    def problem(case: Case) -> str:
        nonlocal late
        if case not in known:
            if last is not None and len(known) >= last:
                return ""
            if deadline.over:
                late = True
                return ""
            known[case], distances[case] = problem_of(build, case, claim, within, precision)
        return known[case]

    def fails(case: Case) -> bool:
        nonlocal last
        found = problem(case)
        if found in wanted:
            last = last or len(known) + SMALLER
            wanted.intersection_update({found})
            return True
        return False

    best = _find(space, fails, seed, examples)
    narrower = iter(()) if best is None else _narrower(space, best)
    while (smaller := next(narrower, None)) is not None:
        if (better := _find(smaller, fails, seed, examples // 4)) is not None:
            best, narrower = better, _narrower(space, better)
    tried = sum(value != "refused" for value in known.values())
    counterexample: Counterexample | None = None
    if best is not None:
        explained = explain(build, best, claim, budget, precision)
        if isinstance(explained, Outcome):
            error = "wrong when it was enumerated first, right the second time: it depends on more than its arguments"
            explained = Counterexample(best, claim, "error", error=error)
        counterexample = explained
    widest = tuple(sorted(distances, key=lambda case: -distances[case])[:KEPT])
    dependent = next((case for case, value in known.items() if value == "rows"), None)
    return Search(counterexample, tried, len(known) - tried, not (late or deadline.over), widest, dependent)


def _narrower(space: Space, best: Case) -> Iterator[Space]:
    """Parts of a space in which everything is smaller than a case: shrinking has its local optima."""
    model, (fewest, _), (shortest, _) = best.target(), space.vocab, space.length
    windows = tuple(w for w in space.windows if w is None or best.window is None or w <= best.window)
    space = replace(space, length=(shortest, model.length), far=0, windows=windows)
    if model.vocab > fewest:
        yield replace(space, vocab=(fewest, model.vocab - 1))
    if model.length > shortest:
        yield replace(space, vocab=(fewest, model.vocab), length=(shortest, model.length - 1))


def problem_of(build: Build, case: Case, claim: Claim, budget: Budget, precision: torch.dtype) -> tuple[str, float]:
    """What is wrong, if anything, and the distance."""
    try:
        outcome = evaluate(build, case, claim, budget, precision)
    except (InputError, BudgetError):
        return "refused", 0.0
    except DependentRowsError:
        return "rows", 0.0
    except ContractError:
        return "error", 0.0
    return "law" if outcome.fails else "error" if outcome.breach else "", outcome.tv


def _find(space: Space, fails: Callable[[Case], bool], seed: int, examples: int) -> Case | None:
    found: list[Case] = []

    def condition(case: Case) -> bool:
        if fails(case):
            found.append(case)
            return True
        return False

    quiet = settings(
        max_examples=examples,
        derandomize=False,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    with warnings.catch_warnings():
        # What else in the process draws from `random` while cases are made is no concern of theirs.
        warnings.simplefilter("ignore", HypothesisWarning)
        try:
            return find(space.cases(), condition, settings=quiet, random=random.Random(seed))
        except NoSuchExample:
            return None
        except Flaky:  # time ran out while shrinking
            return found[-1]
