"""A scheduler's verification of one window: all that it may return, with probabilities, or one run of it.

What is followed are the numbers that it draws with torch (`subjects.sampler_worlds`), one world after the other. Worlds
with the same result are one outcome, and equal windows are followed once, whichever prefix they come from.

That this is what the function does is looked at on the way: a path that is taken again must meet the same chances; the
same random numbers must give the same result where it just runs, right after another window, and where it is followed;
no world may move numpy's generators or Python's; and the chances of all worlds must sum to 1.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.errors import BudgetError, ContractError
from specverify.subjects.sampler_coins import Unfollowed
from specverify.subjects.sampler_noise import REMEDY, Elsewhere, restored
from specverify.subjects.sampler_world import World
from specverify.subjects.sampler_worlds import twins, worlds

Verify = Callable[[Tensor, Tensor, Tensor], Any]
"""(ids Int[1, w + 1], logits Float[1, w + 1, vocab], q Float[1, w + 1, vocab]) -> (matched, tokens, scores)."""
KEPT = 200_000
"""Outcomes that are kept of windows that were followed."""
AGAIN = 32
"""Windows whose worlds are all run twice: the first so many, and then one in so many."""
TIMES = 12
"""Runs of the first of those worlds: what is not torch's does not come out the same so often by luck."""
TWINS = 4
"""Runs of such a window that are made with the same numbers twice, followed and not."""
MISSING = 1e-13
"""How far from 1 the chances of all worlds together may be: rounding, and chances that rounding makes (`worlds`). It is
a tenth of what a law may be off that is taken to be exact."""
DIGITS = 12
"""Decimals in which the scores of two worlds agree that are one outcome: what differs further on is rounding."""
ANOTHER_WAY = "judge the whole loop as a black box: --level sampler"


class Returned(ContractError):
    """A function returned what no window can come to."""


@dataclass(frozen=True)
class Asked:
    """One window that is to be verified.

    Attributes:
        ids: the last committed token, then the drafts.
        logits: raw logits of the position behind each of `ids`.
        q: the law that each of `ids` was drawn from.
        room: positions of the sequence that are left.
        eos: the id that ends it, or None.
    """

    ids: Int[Tensor, " slots"]
    logits: Float[Tensor, "slots vocab"]
    q: Float[Tensor, "slots vocab"]
    room: int
    eos: int | None

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for windows that are verified alike."""
        parts = (self.ids, self.logits, self.q)
        return (min(self.room, len(self.ids)), self.eos, *((str(x.dtype), x.numpy().tobytes()) for x in parts))


@dataclass(frozen=True)
class Verified:
    """What came of it; what lies beyond the end of the sequence is left out.

    Attributes:
        accepted: drafts that were kept.
        matched: tokens to commit: those, and most often one more.
        tokens: these tokens, and the drafts for the places behind them.
        scores: the law that each of `tokens` was drawn from.
    """

    accepted: int
    matched: int
    tokens: Int[Tensor, " n"]
    scores: Float[Tensor, "n vocab"]

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for results that are one outcome; scores of what is committed are not looked at again."""
        kept = self.scores[self.matched :].double().round(decimals=DIGITS) + 0.0  # and -0 is 0
        return self.accepted, self.matched, tuple(self.tokens.tolist()), kept.numpy().tobytes()


@dataclass(frozen=True)
class Outcomes:
    """All that may come of a window.

    Attributes:
        chance: of each.
        results: each of them.
    """

    chance: Float[Tensor, " outcomes"]
    results: list[Verified]


class Verification:
    """A function that verifies, its results read and checked.

    Args:
        verify: the function.
        name: how errors call it.
        budget: most worlds of one window.
    """

    def __init__(self, verify: Verify, name: str, budget: int) -> None:
        self.verify, self.name, self.budget = verify, name, budget
        self._known: dict[Any, Outcomes] = {}
        self._kept = self._followed = 0
        self._too_large: set[tuple[int, int]] = set()
        self._asked: Asked | None = None
        self._before: Asked | None = None
        self._elsewhere = Elsewhere()
        self._results: dict[Any, Verified] = {}

    def outcomes(self, asked: Asked) -> Outcomes:
        """Everything that it may return for a window.

        Raises:
            BudgetError: there are too many worlds.
            ContractError: it returns something else than is due, keeps state between calls, or draws in a way that
                cannot be followed.
        """
        key = asked.key
        if (known := self._known.get(key)) is None:
            if self._kept > KEPT:
                self._known.clear()
                self._kept = 0
            known = self._known[key] = self._follow(asked)
            self._kept += len(known.results)
        return known

    def run(self, asked: Asked) -> Verified:
        """One result: the function just runs, on whatever state the generators are in.

        It has copies, which it may change.

        Raises:
            ContractError: it returns something else than is due, or uses a number that it was lent to be followed.
        """
        try:
            result = self.verify(asked.ids.clone()[None], asked.logits.clone()[None], asked.q.clone()[None])
        except Unfollowed as error:
            if World.current is not None:
                raise
            raise ContractError(f"{self.name}: {error}") from None
        return _read(result, asked, self.name)

    def _follow(self, asked: Asked) -> Outcomes:
        size = (len(asked.ids), asked.q.shape[-1])
        if size in self._too_large:
            raise BudgetError(
                f"{self.name} has more than {self.budget:,} worlds on {size[0]} slots of {size[1]} tokens"
            )
        self._asked, self._results = asked, {}
        chance: dict[Any, float] = {}
        again = self._again()
        try:
            for key, world in worlds(self._world, budget=self.budget, others=[self._world] * TIMES if again else []):
                chance[key] = chance.get(key, 0.0) + world.probability
            if abs(missing := 1 - math.fsum(chance.values())) > MISSING:
                raise ContractError(f"the chances of its worlds sum to 1 - {missing:.3g}: it keeps state between calls")
            for seed in range(TWINS if again else 0):
                self._run_beside(asked, seed)
        except BudgetError as error:
            self._too_large.add(size)
            raise BudgetError(f"{self.name} on {size[0]} slots of {size[1]} tokens: {error}") from None
        except Returned:
            raise
        except ContractError as error:
            said = str(error).replace(f"or {REMEDY}", "").replace(REMEDY, "").rstrip(" ;,")
            raise ContractError(f"{self.name}: {said}. Where it cannot be followed, {ANOTHER_WAY}") from error
        self._before = asked
        return Outcomes(
            torch.tensor(list(chance.values()), dtype=torch.float64), [self._results[key] for key in chance]
        )

    def _again(self) -> bool:
        """Whether it is looked, at this window, if the same draws lead to the same result."""
        self._followed += 1
        return self._followed <= AGAIN or self._followed % AGAIN == 0

    def _world(self) -> Any:
        """One world's result, by its key; the result itself is kept beside it."""
        assert self._asked is not None
        with self._elsewhere:
            found = self.run(self._asked)
        self._results.setdefault(found.key, found)
        return found.key

    def _run_beside(self, asked: Asked, seed: int) -> None:
        """The same numbers, where it just runs and where it is followed; behind another window, if there was one."""
        if self._before is not None:
            with restored():
                self.run(self._before)
        plain, followed = twins(lambda: self.run(asked).key, seed)
        if plain != followed:
            raise ContractError(
                f"with the same random numbers it returns {plain[:3]} as it runs and {followed[:3]} where its draws "
                f"are followed, for the drafts {asked.ids[1:].tolist()}: it keeps state between calls, or catches what "
                "cannot be followed"
            )


@contextlib.contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Everybody's generators, torch's, numpy's and Python's, seeded from this one; afterwards they are as before."""
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with restored():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        yield


def _read(result: Any, asked: Asked, name: str) -> Verified:
    """What a function returned, checked."""
    slots, vocab = asked.q.shape
    drafts = slots - 1
    if not (isinstance(result, tuple | list) and len(result) == 3):
        raise Returned(f"{name} returned {_kind(result)}; it returns a triple: matched, tokens, scores")
    matched, tokens, scores = _count(result[0], drafts, name), result[1], result[2]
    if not isinstance(tokens, Tensor) or tokens.ndim != 2 or len(tokens) != 1 or tokens.is_floating_point():
        raise Returned(f"{name} returned tokens that are {_kind(tokens)}; they are Int[1, n]")
    size = tokens.shape[1]
    if not matched <= size <= slots:
        raise Returned(
            f"{name} returned {size} tokens, of which {matched} are to be committed, for {drafts} drafts; there are "
            f"at most {slots}: those to commit, then drafts for the places behind"
        )
    if not isinstance(scores, Tensor) or tuple(scores.shape) != (1, size, vocab) or not scores.is_floating_point():
        raise Returned(
            f"{name} returned scores that are {_kind(scores)}; they are Float[1, {size}, {vocab}], the law that "
            "each of its tokens was drawn from"
        )
    tokens, scores = tokens[0].to(torch.int64, copy=True), scores[0].clone()  # of a buffer, it may be
    accepted = matched - 1
    if not torch.equal(tokens[:accepted], asked.ids[1:matched]):
        raise Returned(
            f"{name} says that {matched} tokens matched, that is that {accepted} drafts were accepted, but it returned "
            f"{tokens[:accepted].tolist()} where the drafts were {asked.ids[1:matched].tolist()}"
        )
    end = min(size, asked.room)
    ended = [] if asked.eos is None else (tokens[:matched] == asked.eos).nonzero()[:, 0].tolist()
    if ended:  # nothing is drafted behind an end
        end, accepted = min(end, ended[0] + 1), min(accepted, ended[0] + 1)
    tokens, scores = tokens[:end], scores[:end].to(asked.q.dtype)
    if bool(((tokens < 0) | (tokens >= vocab)).any()):
        raise Returned(f"{name} returned the tokens {tokens.tolist()}; ids are 0..{vocab - 1}")
    if bool(scores[matched:].isnan().any()):
        raise Returned(
            f"{name} returned NaN among the scores of the drafts that it keeps, for the drafts "
            f"{asked.ids[1:].tolist()}; look for 0 / 0, or log 0 less log 0, where laws have zeros"
        )
    return Verified(accepted, min(matched, end), tokens, scores)


def _count(matched: Any, drafts: int, name: str) -> int:
    if isinstance(matched, Tensor) and matched.numel() == 1 and not matched.is_floating_point():
        matched = int(matched)
    if isinstance(matched, bool) or not isinstance(matched, int | np.integer) or not 1 <= matched <= drafts + 1:
        raise Returned(
            f"{name} returned matched = {matched if isinstance(matched, int) else _kind(matched)} for {drafts} drafts; "
            f"it is how many tokens are to be committed, the accepted drafts and the one behind them: "
            f"1..{drafts + 1}"
        )
    return int(matched)


def _kind(thing: Any) -> str:
    if isinstance(thing, Tensor):
        return f"a tensor of shape {tuple(thing.shape)} and {thing.dtype}"
    if isinstance(thing, tuple | list):
        return f"a {type(thing).__name__} of {len(thing)}"
    return f"an object of type {type(thing).__name__}"
