"""The laws of what is emitted, by sampling: which contexts are played, how much of each, and what the counts say.

Every law has an e-process, which may be looked at as often as one likes: after each doubling of the rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
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
from specverify.subjects.rounds.contexts import CELLS, Contexts, build, vocabulary
from specverify.subjects.rounds.kernel import Kernel
from specverify.subjects.rounds.kinds import SLOTS
from specverify.subjects.rounds.play import Played, play, shuffled

LAWS = (
    "dense",
    "near",
    "equal",
    "sparse target",
    "sparse draft",
    "other support",
    "disjoint",
    "sharp",
    "one-hot draft",
    "cool",
    "warm",
    "top-k",
    "greedy",
    "greedy tie",
    "partly equal",
    "sparse equal",
    "one-hot target",
    "tiny",
    "cut",
    "tied",
)
CERTAIN = ("dense", "sparse target", "sharp", "top-k", "greedy")
TWO_ROUNDS = ("dense", "sparse target", "one-hot draft", "greedy")
WIDE = ("dense", "other support")
WIDTH = 1031
"""Size of the wide vocabulary: prime, and above the tile of 1024 that kernels like."""
FULL = ("dense", "early")
"""Laws with (nearly) as many tokens as the wide vocabulary has."""
DTYPES = (torch.bfloat16, torch.float16, torch.float64)
"""What laws are also given in, where the kernel takes it."""
COARSE = 0.1
"""What has to be seen over a wide vocabulary, and in other dtypes."""
COARSER = 0.2
"""And over as many tokens."""
WINDOWS = (8, 16)
"""Windows of more drafts than were asked for; one or two of their slots at a time have a choice."""
LONG = (
    f"{TOTAL_VARIATION} of what rounds emit that turn on a slot or two in windows of more drafts, each slot by itself"
)
ROUGH = f"{TOTAL_VARIATION} over wide vocabularies and in other dtypes"
SHARE = 0.05
"""Most of the time that one call may take."""


@dataclass
class Stream:
    """The counts of one check: blocks of them, each as many new rows as a look adds."""

    check: str
    context: int
    law: Float[np.ndarray, " outcomes"]
    delta: float
    metric: str = TOTAL_VARIATION
    blocks: list[Int[np.ndarray, " outcomes"]] = field(default_factory=list)

    @property
    def test(self) -> EProcess:
        """What is made of the counts."""
        return _test(self.law.tobytes())

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
        streams: one for each context, and then one more by the token rule.
        dtype: of the laws; float32 if None.
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
            new = list(part.counts(self.contexts).numpy())
            if self.by_rule:
                new += list(token_rule.counts(part, self.contexts, self.gamma).numpy())
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


def trials(kernel: Kernel, gamma: int, delta: float, names: Collection[str] | None, by_rule: bool) -> list[Trial]:
    """What is played: one round, one without q, two in a row, wide vocabularies, other dtypes, long windows."""
    block = gamma + 1
    longer = next(depth for depth in (gamma + 3, gamma + 2, block) if 2**depth <= CELLS)
    size, three, coarse = vocabulary(block), min(3, vocabulary(longer)), max(delta, COARSE)
    plans: list[tuple[str, tuple[str, ...], int, int, int, bool, int | None, float, torch.dtype | None]] = [
        ("one round", LAWS, size, block, 1, False, None, delta, None),
        ("no draft law", CERTAIN, size, block, 1, True, None, delta, None),
        ("two rounds", TWO_ROUNDS, three, longer, 2, False, None, delta, None),
        ("wide vocabulary", WIDE, 4, 2, 1, False, WIDTH, coarse, None),
        ("full vocabulary", FULL, WIDTH, 1, 1, False, None, max(delta, COARSER), None),
    ]
    if kernel.batch != "single":  # those conventions take logarithms, which other dtypes round
        plans += [
            (str(dtype).removeprefix("torch."), ("sixteenths",), min(size, 3), block, 1, False, None, coarse, dtype)
            for dtype in DTYPES
        ]
    found = []
    for name, all_names, tokens, depth, rounds, certain, width, visible, dtype in plans:
        kept = tuple(each for each in all_names if names is None or each in names)
        if not kept or (certain and not kernel.certain):
            continue
        contexts = build(kept, tokens, depth, width=width, key=name)
        streams = [
            Stream(f"{name}: {context}", number, law, visible, TOTAL_VARIATION if visible == delta else ROUGH)
            for number, (context, law) in enumerate(zip(kept, contexts.joint().numpy(), strict=True))
        ]
        ruled = by_rule and rounds == 1 and depth == block and dtype is None
        if ruled:
            laws = token_rule.law(contexts, gamma, certain=certain).numpy()
            streams += [
                Stream(f"token rule, {name}: {context}", number, law, visible)
                for number, (context, law) in enumerate(zip(kept, laws, strict=True))
            ]
        found.append(Trial(name, contexts, rounds, certain, ruled, gamma, streams, dtype))
    kept = tuple(each for each in SLOTS if names is None or each in names)
    return found + [_long(window, kept, coarse) for window in windows(kernel, gamma) if kept]


def windows(kernel: Kernel, gamma: int) -> tuple[int, ...]:
    """The longer windows that a kernel is tried with; none for one that takes a row at a time, and so is slow."""
    return tuple(window for window in WINDOWS if window > gamma and kernel.batch != "single")


def _long(window: int, names: tuple[str, ...], delta: float) -> Trial:
    name, contexts = f"window of {window}", slots_of(window, names)
    streams = [
        Stream(f"{name}: {context}", number, law, delta, LONG)
        for number, (context, law) in enumerate(zip(names, contexts.joint().numpy(), strict=True))
    ]
    return Trial(name, contexts, 1, False, False, window, streams)


def slots_of(window: int, names: tuple[str, ...] = SLOTS) -> Contexts:
    """Contexts of two tokens in which a slot or two of so many have something at stake."""
    return build(names, 2, window + 1, key="long windows")
