"""The law of a black box on one toy: every world of it, as far as budget and time go."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float

from specverify.claims import Claim
from specverify.deadline import Deadline
from specverify.errors import BudgetError, ContractError
from specverify.evidence.sequences import sequence_index
from specverify.subjects.sampler_forms import NEGLIGIBLE
from specverify.subjects.sampler_lines import Path
from specverify.subjects.sampler_logs import split
from specverify.subjects.sampler_noise import REMEDY
from specverify.subjects.sampler_series import SEED_BITS, Sampler, checked
from specverify.subjects.sampler_suite import Case, claimed_law
from specverify.subjects.sampler_unwatched import unwatched
from specverify.subjects.sampler_world import World
from specverify.subjects.sampler_worlds import twins, worlds

SEEDS = (0, 918_273_645, *(1 << bits for bits in SEED_BITS), *range(20_001, 2**30, 104_729_003))
"""The seed of every world, and others, far away, some with the same lower bits: the same draws must lead to the same
tokens. So many that what is not torch's does not come out the same by luck."""
TWINS = 8
"""Runs on each toy that are made with the same random numbers twice, followed and not."""
LEFT = 1e-5
"""Of the chance that may be missing where budget or time is over, the part that is left out in any case."""
DAY = 86_400
"""Seconds beyond which more time is no advice."""
Chances = Float[np.ndarray, " sequences"]


@dataclass
class Law:
    """What the worlds of a sampler on one toy come to.

    Attributes:
        came: the chance of every sequence, as far as worlds were followed.
        worlds: how many were.
        coins: comparisons that could have gone either way, on average.
        stopped: why they were not all followed, or "".
        paths: the worlds.
        share: of all worlds, as far as the branches beside those that were followed tell: the chance of being one of
            them, if every branch were as likely as those beside it.
        late: seconds that were spent, where the time was up before the end; 0 otherwise.
    """

    came: Float[np.ndarray, " sequences"]
    worlds: int = 0
    coins: float = 0.0
    stopped: str = ""
    paths: list[Path] = field(default_factory=list)
    share: float = 0.0
    late: float = 0.0

    def missing(self, seconds: float, whole: float) -> str:
        """What would have been enough, where the time was up: more of these seconds, which are a part of the whole."""
        if not self.late or not self.worlds:
            return self.stopped
        every = self.worlds / self.share
        enough = math.ceil((seconds + self.late * (every / self.worlds - 1)) * whole / seconds)
        some = f"the time was up after {self.worlds:,} of some {math.ceil(every):,} worlds"
        advice = f"--seconds {2 * enough}" if enough < DAY else "fewer draws a token, or a smaller window, would help"
        return f"{some}; this toy alone takes {enough:,} seconds or more ({advice})"


def law_of(
    sample: Sampler, case: Case, claim: Claim, budget: int, deadline: Deadline, missing: float, rows: int = 1
) -> Law:
    """The law that comes out of all worlds but `missing`, or of those that were followed within the budget.

    Raises:
        BudgetError: the law that is due cannot be written down.
        ContractError: the sampler keeps state between calls, or looks at what a number is.
    """
    due, cluster, vocab = claimed_law(case, claim)
    if due is None:
        raise BudgetError("too many sequences to write their law down; use a smaller toy")
    law, left = Law(np.zeros(len(due) ** rows)), deadline.left
    case = replace(case, target=unwatched(case.target), draft=unwatched(case.draft))
    world: World
    first, *others = (functools.partial(_call, sample, case, law, deadline, seed, rows) for seed in SEEDS)
    others = others if rows == 1 else others[:1]  # of seeds one row has told
    try:
        for tokens, world in worlds(first, budget=budget, others=others, missing=LEFT * missing):
            if not law.worlds:
                _as_it_runs(first)
            mapped = tokens if cluster is None else cluster[tokens]
            places = sequence_index(mapped, vocab).tolist()
            law.came[int(np.ravel_multi_index(places, [len(due)] * rows))] += world.probability
            law.coins += world.probability * world.coins
            law.worlds += 1
            law.share += math.prod(1 / sum(chance > NEGLIGIBLE for chance in draw) for draw in world.options)
            law.paths.append(Path(tuple(mapped[0].tolist()), tuple(world.taken), tuple(world.lines), world.probability))
    except BudgetError as error:
        law.stopped = str(error) if 1 - law.came.sum() > missing else ""
        law.late = left if law.stopped and deadline.over else 0.0
    return law


def _as_it_runs(program: Callable[[], torch.Tensor]) -> None:
    """Whether the same random numbers give the same tokens where the sampler just runs and where it is followed.

    Raises:
        ContractError: they do not, more than once: once it may be the rounding of a number at its bound.
    """
    off = [pair for pair in (twins(program, seed) for seed in range(TWINS)) if not torch.equal(*pair)]
    if len(off) == 1:
        off += [pair for pair in (twins(program, seed) for seed in range(TWINS, 4 * TWINS)) if not torch.equal(*pair)]
    if len(off) > 1:
        plain, followed = (tokens.tolist() for tokens in off[0])
        raise ContractError(
            f"with the same random numbers it returns {plain} as it runs and {followed} where its draws are followed: "
            f"it keeps state between calls, or looks at what a number is; {REMEDY}"
        )


def _call(sample: Sampler, case: Case, law: Law, deadline: Deadline, seed: int, rows: int) -> torch.Tensor:
    if deadline.over:
        raise BudgetError(f"the time was up after {law.worlds:,} worlds; give more seconds, or a smaller toy")
    return checked(split(sample(case.target, case.draft, rows, seed))[0], rows, case.target)
