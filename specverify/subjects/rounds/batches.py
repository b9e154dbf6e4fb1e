"""Batches as a server has them: of every small size, some ragged and some not, with each row's place remembered.

A kernel has paths for a batch of one, for batches that fill a tile, for batches without padding, and slips at single
rows. Rows of one size, of one place, and of one kind of batch are therefore tested apart, each over all contexts
together (`evidence/pooled.py`); where the evidence is highest at the end, some are played on. The kinds:

    ragged        rows of any context, with any number of drafts
    full          every row has all its drafts
    equal         every row has as many as the others
    empty         no row has any
    one context   rows alike, such as all greedy
    no draft law  q = None, of any kind
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from specverify.batteries import calls
from specverify.deadline import Deadline
from specverify.draws import Sampled
from specverify.evidence.result import Evidence
from specverify.evidence.sequential import EProcess
from specverify.judge import coarsest
from specverify.subjects.rounds.calls import MOST_ROWS, in_batches
from specverify.subjects.rounds.contexts import build
from specverify.subjects.rounds.kernel import Kernel
from specverify.subjects.rounds.play import Layout, Played, play

SIZES = (
    *range(1, 41),
    *(43, 47, 48, 49, 53, 59, 63, 64, 65, 66, 73, 80, 95, 96, 97, 100, 111, 120, 127, 128, 129, 130),
    *(192, 255, 256, 257, 384, 511, 512, 513, 1000, 1023, 1024, 1025, 2048, MOST_ROWS),
)
"""Small sizes, and those around where kernels change tiles."""
BOX = f"1 to 40, and {len(SIZES) - 40} sizes from 43 to {MOST_ROWS:,}"
CONTEXTS = ("halves", "one-hot draft", "other support", "greedy")
SHARES = (0.5, 0.25, 0.15, 0.1)
COUNTED = 0.9
"""The share of rows whose context has a choice."""
TOKENS, DEPTH = 3, 4
KINDS = ("ragged", "full", "equal", "empty", "one context", "no draft law")
CHANCES = (0.3, 0.3, 0.15, 0.1, 0.15)
FAR = (8, 32, 64, 128, 1024)
"""From these places on, counted from 0, rows have one stratum together."""
PLACES = ("first row", "last row", "last row but one", *(f"rows at place {place}" for place in range(1, FAR[0])),
          *(f"rows from place {place:,}" for place in FAR))  # fmt: skip
STRATA = {
    "batch sizes": tuple(f"batches of {size:,}" for size in SIZES),
    "places in the batch": PLACES,
    "kinds of batch": KINDS,
}
"""What rows are tested apart by."""
AGAIN, CALLS = 12, 400
"""How many groups of batches are played where the evidence is highest, and the most batches of one."""
CLOSE = 8
"""So many sizes of batches that have a place are played for it: the smallest."""


@dataclass(frozen=True)
class Batch:
    """One batch to be played."""

    size: int
    kind: int
    certain: bool


class Batches:
    """The budget of rows of each size, and what came of it."""

    def __init__(self, kernel: Kernel, gamma: int, delta: float) -> None:
        self.kernel, self.gamma = kernel, gamma
        self.contexts = build(CONTEXTS, TOKENS, min(gamma + 1, DEPTH), key="batches")
        self.laws = laws = self.contexts.joint().numpy()
        self.sizes: tuple[int, ...] = SIZES
        self.need = self.wanted = 0
        self.open = (laws > 0).sum(1) > 1  # contexts with a choice
        self.names = {name: STRATA[name] for name in calls.of("batches")}
        self.tests = {name: calls.CHECKS[name].make(laws, strata) for name, strata in self.names.items()}
        self.counts = {name: np.zeros((len(strata), *laws.shape), np.int64) for name, strata in self.names.items()}
        self.checks = {name: calls.CHECKS[name].delta(delta) for name in self.names}
        self.highest = {check: np.zeros(len(names)) for check, names in self.names.items()}
        self.recent: list[tuple[Layout, Tensor, Played]] = []

    def plan(self, alphas: Mapping[str, float], beta: float) -> None:
        """Set how many rows of each size it takes."""
        check = "batch sizes"
        self.need = self.wanted = self.tests[check].sample_size(self.checks[check], alpha=alphas[check], beta=beta)

    @property
    def played(self) -> dict[int, int]:
        """Rows of each size that count: those in contexts with a choice."""
        rows = self.counts["batch sizes"][:, self.open].sum((1, 2)).tolist()
        return dict(zip(SIZES, rows, strict=True))

    def leeway(self, slack: float) -> float:
        """How many times as coarse as planned what is seen may be: see `judge.coarsest`."""
        return min(coarsest(delta, slack) / delta for delta in self.checks.values())

    @property
    def reached(self) -> int:
        """How far it has got towards what is wanted, at the size that has been played least."""
        played = self.played
        return min(played[size] for size in self.sizes)

    def cost(self, per_call: float, per_row: float) -> float:
        """Seconds that what is left to be played takes."""
        played = self.played
        rows = {size: max(0, self.need - played[size]) / COUNTED for size in self.sizes}
        return sum(math.ceil(n / size) * (per_call + size * per_row) for size, n in rows.items())

    def look(
        self, rows: int, draws: Sampled, generator: torch.Generator, deadline: Deadline, alphas: Mapping[str, float]
    ) -> tuple[Tensor, tuple[str, int] | None]:
        """Play on up to so many rows of each size.

        Returns:
            the tally of `Played`, and the check and stratum that refute the kernel most, if one does.
        """
        tally = torch.zeros(4, dtype=torch.int64)
        self.recent = []
        # Rows in contexts without a choice do not count, so that some sizes are due again.
        while not deadline.over and (groups := self._groups(min(rows, self.need), draws)):
            for group in groups:
                if deadline.over:
                    break
                tally += self._take(group, draws, generator)
        doubt, check, number = self._most_doubtful(alphas)
        return tally, (check, number) if doubt > 0 else None

    def look_again(
        self, draws: Sampled, generator: torch.Generator, deadline: Deadline, alphas: Mapping[str, float]
    ) -> tuple[Tensor, tuple[str, int] | None]:
        """Play on where the evidence is highest, a group of batches at a time; see `look` for what it returns.

        An e-process keeps its rate whatever decides how long it goes on, so that this takes no alpha of its own. A
        stratum that is right sinks, and the next one has its turn; one that is wrong rises.
        """
        tally = torch.zeros(4, dtype=torch.int64)
        self.recent = []
        doubt, check, number = self._most_doubtful(alphas)
        for _ in range(AGAIN):
            if deadline.over or doubt > 0:
                break
            tally += self._take(self._more(check, number, draws), draws, generator)
            doubt, check, number = self._most_doubtful(alphas)
        return tally, (check, number) if doubt > 0 else None

    def play(
        self, group: list[Batch], draws: Sampled, generator: torch.Generator
    ) -> tuple[Layout, Int[Tensor, " rows"], Played]:
        """Play these batches; also the kind of each row's batch."""
        layout, kinds = self._layout(group, draws)
        kernel = in_batches(self.kernel, [batch.size for batch in group], [batch.certain for batch in group])
        return layout, kinds, play(kernel, self.contexts, layout, self.gamma, 1, draws, generator)

    def evidence(self, alphas: Mapping[str, float], beta: float) -> list[Evidence]:
        """One for each check: what its worst stratum says, and what its smallest is sure to see."""
        return [
            test.check(self.counts[name], alpha=alphas[name], beta=beta, highest=self.highest[name])
            for name, test in self.tests.items()
        ]

    def suspects(self, check: str, stratum: int) -> tuple[int, list[Played]]:
        """The context in which a stratum is most wrong, and its rows of the last look."""
        counts = self.counts[check][stratum]
        doubts = [
            EProcess(law).log_e(count) if (law > 0).sum() > 1 and count.sum() else 0.0
            for law, count in zip(self.laws, counts, strict=True)
        ]
        return int(np.argmax(doubts)), [
            _only(played, self._codes(layout, kinds)[check] == stratum) for layout, kinds, played in self.recent
        ]

    def _take(self, group: list[Batch], draws: Sampled, generator: torch.Generator) -> Tensor:
        """Play a group of batches, and count it."""
        layout, kinds, played = self.play(group, draws, generator)
        self.recent.append((layout, kinds, played))
        self._count(layout, kinds, played)
        return played.tally

    def _most_doubtful(self, alphas: Mapping[str, float]) -> tuple[float, str, int]:
        """The stratum whose evidence is nearest to rejection, or furthest beyond it: there the number is above 0."""
        found = []
        for check, counts in self.counts.items():
            log_e = self.tests[check].log_e(counts)
            self.highest[check] = np.maximum(self.highest[check], log_e)
            played = counts[:, self.open].sum((1, 2)) > 0  # what a convention has not is never played
            doubt = np.where(played, log_e + math.log(alphas[check] / len(counts)), -np.inf)
            found.append((float(doubt.max()), check, int(doubt.argmax())))
        return max(found)

    def _more(self, check: str, stratum: int, draws: Sampled) -> list[Batch]:
        """A group of batches that have rows in a stratum; for rows of one place, the smallest that have it."""
        sizes, kind, bare = torch.tensor(self.sizes), None, False
        if check == "batch sizes":
            sizes = torch.tensor(SIZES[stratum : stratum + 1])
        elif check == "kinds of batch":
            bare = KINDS[stratum] == "no draft law"
            kind = None if bare else stratum
        else:
            sizes = torch.tensor(
                [
                    size
                    for size in self.sizes
                    if bool((_place(torch.arange(size), torch.full((size,), size)) == stratum).any())
                ][:CLOSE]
            )
        group: list[Batch] = []
        chances = self._chances()
        while len(group) < CALLS:
            size = int(sizes[torch.randint(len(sizes), (1,), generator=draws.generator)])
            if group and sum(batch.size for batch in group) + size > MOST_ROWS:
                break
            drawn = int(torch.multinomial(chances, 1, generator=draws.generator))
            group.append(Batch(size, drawn if kind is None else kind, bare))
        return group

    def _groups(self, rows: int, draws: Sampled) -> list[list[Batch]]:
        """Batches up to so many rows of each size, in random order, gathered into groups that fit a call."""
        played = self.played
        due = [size for size in self.sizes for _ in range(math.ceil(max(0, rows - played[size]) / COUNTED / size))]
        order = torch.randperm(len(due), generator=draws.generator).tolist()
        kinds = torch.multinomial(self._chances(), max(1, len(due)), True, generator=draws.generator).tolist()
        bare = (torch.rand(len(due), generator=draws.generator) < 0.125).tolist()
        groups: list[list[Batch]] = [[]]
        filled = 0
        for number in order:
            if filled + due[number] > MOST_ROWS and groups[-1]:
                groups.append([])
                filled = 0
            groups[-1].append(Batch(due[number], kinds[number], bare[number] and self.kernel.certain))
            filled += due[number]
        return groups if due else []

    def _chances(self) -> Tensor:
        chances = torch.tensor(CHANCES)
        if self.kernel.batch == "equal":  # it never sees a ragged batch
            chances[0] = 0.0
        if self.kernel.fewest:
            chances[3] = 0.0
        return chances

    def _layout(self, group: list[Batch], draws: Sampled) -> tuple[Layout, Int[Tensor, " rows"]]:
        sizes = torch.tensor([batch.size for batch in group])
        kinds = torch.tensor([batch.kind for batch in group])
        batch = torch.arange(len(group)).repeat_interleave(sizes)
        size = sizes[batch]
        index = torch.arange(len(batch)) - (sizes.cumsum(0) - sizes)[batch]
        kind = kinds[batch]
        fewest, alike = self.kernel.fewest, kind == KINDS.index("one context")

        def drawn(weights: Tensor, count: int) -> Tensor:
            return torch.multinomial(weights, count, True, generator=draws.generator)

        shares = torch.tensor(SHARES)
        context = torch.where(alike, drawn(shares, len(group))[batch], drawn(shares, len(batch)))
        # Half of the rows have all their drafts.
        weights = torch.ones(self.gamma + 1 - fewest)
        weights[-1] = max(1, self.gamma - fewest)
        each, common = (fewest + drawn(weights, count) for count in (len(batch), len(group)))
        even = torch.ones_like(weights)
        equal = (fewest + drawn(even, len(group)))[batch]
        lengths = torch.where(kind == KINDS.index("equal"), equal, each)
        if self.kernel.batch == "equal":
            lengths = torch.where(alike, common[batch], lengths)
        lengths = torch.where(kind == KINDS.index("full"), self.gamma, lengths)
        lengths = torch.where(kind == KINDS.index("empty"), 0, lengths)
        bare = torch.tensor([batch.certain for batch in group])[batch]
        return Layout(context, size, index, lengths), torch.where(bare, KINDS.index("no draft law"), kind)

    def _codes(self, layout: Layout, kinds: Tensor) -> dict[str, Tensor]:
        """The stratum of each row in each check; -1 for none."""
        return {
            "batch sizes": torch.searchsorted(torch.tensor(SIZES), layout.size),
            "places in the batch": _place(layout.index, layout.size),
            "kinds of batch": kinds,
        }

    def _count(self, layout: Layout, kinds: Tensor, played: Played) -> None:
        places = TOKENS ** torch.arange(self.contexts.depth - 1, -1, -1)
        contexts, outcomes = self.laws.shape
        cell = played.context * outcomes + (played.tokens * places).sum(1)
        for check, code in self._codes(layout, kinds).items():
            inside = code >= 0
            flat = (code * contexts * outcomes + cell)[inside]
            table = self.counts[check]
            table += torch.bincount(flat, minlength=table.size).numpy().reshape(table.shape)


def _place(index: Int[Tensor, " rows"], size: Int[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """The stratum of each row's place in its batch; -1 for none."""
    place = PLACES.index("rows at place 1") + index - 1
    far = PLACES.index("rows from place 8") + torch.bucketize(index, torch.tensor(FAR), right=True) - 1
    place = torch.where(index < FAR[0], place, far)
    for name, where in (("last row but one", size - 2), ("first row", 0 * size), ("last row", size - 1)):
        place = torch.where(index == where, PLACES.index(name), place)
    return torch.where(size > 1, place, -1)


def _only(played: Played, rows: Tensor) -> Played:
    return replace(
        played, context=played.context[rows], tokens=played.tokens[rows], branch=played.branch[rows],
        lengths=played.lengths[rows],
    )  # fmt: skip
