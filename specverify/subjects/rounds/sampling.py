"""The laws of what is emitted, by sampling: how much is played of each context, and what the counts say.

What is played is in `trials.py`. Every law has an e-process, which may be looked at as often as one likes: after each
doubling of the rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int

from specverify.batteries import calls
from specverify.deadline import Deadline
from specverify.draws import Sampled
from specverify.evidence.result import TOTAL_VARIATION, Evidence
from specverify.evidence.sequential import EProcess
from specverify.judge import coarsest
from specverify.subjects.rounds import token_rule
from specverify.subjects.rounds.calls import recast, rows_per_call
from specverify.subjects.rounds.contexts import Contexts
from specverify.subjects.rounds.kernel import Kernel, KernelPlace
from specverify.subjects.rounds.kinds import TILE
from specverify.subjects.rounds.play import Played, play, shuffled

SHARE = 0.05
"""Most of the time that one call may take."""


@dataclass(frozen=True)
class View:
    """What is counted where there are too many tokens to count each: its tile of `TILE` ids, or its place inside.

    Attributes:
        position: of the token in its sequence.
        inside: whether it is the place.
    """

    position: int
    inside: bool

    def __str__(self) -> str:
        return f"position {self.position} {'inside of' if self.inside else 'by'} tiles"

    def __call__(self, tokens: Int[torch.Tensor, "rows depth"]) -> Int[torch.Tensor, " rows"]:
        """The number of what is counted, for each row."""
        token = tokens[:, self.position]
        return token % TILE if self.inside else token // TILE

    def ids(self, number: int) -> str:
        """Which ids have it."""
        return f"ids {number} + {TILE} k" if self.inside else f"ids {number * TILE} to {number * TILE + TILE - 1}"


@dataclass
class Stream:
    """The counts of one check: blocks of them, each as many new rows as a look adds.

    Attributes:
        check: its name.
        context: of the trial, by its number.
        law: of what is counted.
        delta, metric: what has to be seen.
        view: what is counted of a row's tokens; None for the whole sequence.
        blocks: the counts.
    """

    check: str
    context: int
    law: Float[np.ndarray, " outcomes"]
    delta: float
    metric: str = TOTAL_VARIATION
    view: View | None = None
    blocks: list[Int[np.ndarray, " outcomes"]] = field(default_factory=list)

    @property
    def test(self) -> EProcess:
        """What is made of the counts."""
        return _test(self.law.tobytes())

    def place(self, view: View, context: str) -> KernelPlace:
        """What comes too often or too rarely, where tokens are counted together."""
        counts = np.sum(self.blocks, axis=0)
        came = counts / counts.sum()
        worst = int(np.abs(came - self.law).argmax())
        more = bool(came[worst] > self.law[worst])
        return {
            "check": self.check, "context": context, "position": view.position, "branch": "any",
            "where": view.ids(worst), "direction": "too often" if more else "too rarely",
            "observed": float(came[worst]), "expected": float(self.law[worst]),
        }  # fmt: skip

    def evidence(self, alpha: float, beta: float) -> Evidence:
        """What the counts say."""
        found = calls.carry_out(self.check, self.test, self.blocks, alpha=alpha, beta=beta)
        return replace(found, metric=self.metric)


@dataclass
class Trial:
    """Contexts that are played together.

    Attributes:
        name: how checks call it.
        contexts: where.
        rounds: how many are played in a row.
        certain: whether q is kept from the kernel.
        by_rule: whether the token rule's own laws are tested as well.
        gamma: slots for drafts.
        streams: one for each context, then one more by the token rule; or of parts of the sequences of one context.
        dtype: of the laws; float32 if None.
        beside: whether a kernel may be without it: one that raises there, or is too slow.
        need: rows of each context that all its checks together take, or that there is time for.
        wanted: the same, whatever time there is.
        played: rows of each context so far.
        seconds, timed: of the processor that the last look took, and its rows of each context.
        recent: what the last look added.
    """

    name: str
    contexts: Contexts
    rounds: int
    certain: bool
    by_rule: bool
    gamma: int
    streams: list[Stream]
    dtype: torch.dtype | None = None
    beside: bool = False
    need: int = 0
    wanted: int = 0
    played: int = 0
    seconds: float = 0.0
    timed: int = 0
    recent: list[Played] = field(default_factory=list)

    def plan(self, alphas: Mapping[str, float], beta: float) -> None:
        """Set what it takes."""
        most = {False: 1, True: 1}
        for stream in self.streams:
            by_rule = not stream.check.startswith(self.name)
            if stream.test.smallest_detectable(most[by_rule], alpha=alphas[stream.check], beta=beta) > stream.delta:
                most[by_rule] = stream.test.sample_size(stream.delta, alpha=alphas[stream.check], beta=beta)
        # Only rows with all their drafts count for the rule: half of them, give or take 10 deviations.
        ruled = round(2 * most[True] + 10 * math.sqrt(most[True])) if self.by_rule else 0
        self.wanted = self.need = max(most[False], ruled)

    def leeway(self, slack: float) -> float:
        """How many times as coarse as planned what is seen may be: see `judge.coarsest`."""
        return min(coarsest(stream.delta, slack) / stream.delta for stream in self.streams)

    @property
    def kind(self) -> str:
        """The dtype of the laws, in a word."""
        return str(self.dtype or torch.float32).removeprefix("torch.")

    @property
    def reached(self) -> int:
        """How far it has got towards what is wanted."""
        return self.played

    @property
    def cost(self) -> float:
        """Seconds that a row of each context took at the last look."""
        return self.seconds / max(1, self.timed)

    def look(
        self,
        kernel: Kernel,
        rows: int,
        draws: Sampled,
        generator: torch.Generator,
        deadline: Deadline,
        alphas: Mapping[str, float],
    ) -> tuple[Int[torch.Tensor, " four"], Stream | None]:
        """Play on up to so many rows of each context.

        Returns:
            the tally of `Played`, and the stream that refutes the kernel most, if one does.
        """
        size = max(1, rows_per_call(self.contexts.vocab, self.gamma + 1) // len(self.contexts.names))
        if self.played:
            size = min(size, max(1, int(SHARE * deadline.left / max(self.cost, 1e-9))))
        if self.dtype is not None:
            kernel = recast(kernel, self.dtype)
        tally, counts = torch.zeros(4, dtype=torch.int64), None
        self.recent = []
        if self.played < min(rows, self.need):
            # What a row costs is told by the latest look alone: calls of a few rows cost more.
            self.seconds, self.timed = 0.0, 0
        while (left := min(rows, self.need) - self.played) > 0 and not deadline.over:
            begun = time.process_time()
            layout = shuffled(self.contexts, min(size, left), draws)
            part = play(kernel, self.contexts, layout, self.gamma, self.rounds, draws, generator, certain=self.certain)
            self.seconds += time.process_time() - begun
            self.played += min(size, left)
            self.timed += min(size, left)
            self.recent.append(part)
            tally += part.tally
            new = [] if self.streams[0].view else list(part.counts(self.contexts).numpy())
            if self.by_rule:
                new += list(token_rule.counts(part, self.contexts, self.gamma).numpy())
            views = [(stream, stream.view) for stream in self.streams if stream.view]
            new += [np.bincount(view(part.tokens).numpy(), minlength=len(stream.law)) for stream, view in views]
            counts = new if counts is None else [old + more for old, more in zip(counts, new, strict=True)]
        if counts is None:
            return tally, None
        doubts = []
        for stream, block in zip(self.streams, counts, strict=True):
            stream.blocks.append(block)
            total = np.sum(stream.blocks, axis=0)
            doubts.append(stream.test.log_e(total) + np.log(alphas[stream.check]))
        worst = int(np.argmax(doubts))
        return tally, self.streams[worst] if doubts[worst] >= 0 else None


@lru_cache(maxsize=1024)
def _test(law: bytes) -> EProcess:
    """One for each law, in float64: it remembers what so many rows of it show, from one judgement to the next."""
    return calls.CHECKS["laws"].make(np.frombuffer(law).copy())  # type: ignore[no-any-return]
