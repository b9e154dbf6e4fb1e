"""The laws of what is emitted, by sampling: which contexts are played, how much of each, and what the counts say.

Every law has an e-process, which may be looked at as often as one likes: after each doubling of the rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Int

from specverify.draws import Sampled
from specverify.evidence.result import Evidence
from specverify.evidence.sequential import EProcess
from specverify.subjects.rounds import token_rule
from specverify.subjects.rounds.contexts import CELLS, Contexts, build, vocabulary
from specverify.subjects.rounds.kernel import Kernel
from specverify.subjects.rounds.play import Played, play

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
)
CERTAIN = ("dense", "sparse target", "sharp", "top-k", "greedy")
TWO_ROUNDS = ("dense", "sparse target", "one-hot draft", "greedy")
WIDE = ("dense", "other support")
WIDTH = 1031
"""Size of the wide vocabulary: prime, and above the tile of 1024 that kernels like."""
WIDE_DELTA = 0.1
CALL_VALUES = 1 << 18
"""Rows times vocabulary of one call, about."""


@dataclass
class Stream:
    """The counts of one check: blocks of them, each as many new rows as a look adds."""

    check: str
    context: int
    law: Float[np.ndarray, " outcomes"]
    delta: float
    blocks: list[Int[np.ndarray, " outcomes"]] = field(default_factory=list)

    def evidence(self, alpha: float, beta: float) -> Evidence:
        """What the counts say."""
        return replace(EProcess(self.law).check(self.blocks, alpha=alpha, beta=beta), check=self.check)


@dataclass
class Trial:
    """Contexts that are played together.

    Attributes:
        name: how checks call it.
        contexts: where.
        rounds: how many are played in a row.
        certain: whether q is kept from the kernel.
        by_rule: whether the token rule's own laws are tested as well.
        streams: one for each context, and then one more by the token rule.
        need: rows of each context that all its checks together take.
        played: rows of each context so far.
        recent: what the last look added.
    """

    name: str
    contexts: Contexts
    rounds: int
    certain: bool
    by_rule: bool
    streams: list[Stream]
    need: int = 0
    played: int = 0
    recent: list[Played] = field(default_factory=list)

    def plan(self, alphas: Mapping[str, float], beta: float) -> None:
        """Set what it takes."""
        most = {False: 1, True: 1}
        for stream in self.streams:
            by_rule, test = not stream.check.startswith(self.name), EProcess(stream.law)
            if test.smallest_detectable(most[by_rule], alpha=alphas[stream.check], beta=beta) > stream.delta:
                most[by_rule] = test.sample_size(stream.delta, alpha=alphas[stream.check], beta=beta)
        # Only rows with all their drafts count for the rule: half of them, give or take 10 deviations.
        ruled = round(2 * most[True] + 10 * math.sqrt(most[True])) if self.by_rule else 0
        self.need = max(most[False], ruled)

    def look(
        self,
        kernel: Kernel,
        rows: int,
        gamma: int,
        draws: Sampled,
        generator: torch.Generator,
        deadline: float,
        alphas: Mapping[str, float],
    ) -> tuple[Int[torch.Tensor, " four"], Stream | None]:
        """Play on up to so many rows of each context.

        Returns:
            the tally of `Played`, and the stream that refutes the kernel most, if one does.
        """
        size = max(1, CALL_VALUES // (len(self.contexts.names) * self.contexts.vocab))
        tally, counts = torch.zeros(4, dtype=torch.int64), None
        self.recent = []
        while (left := min(rows, self.need) - self.played) > 0 and time.perf_counter() < deadline:
            part = play(
                kernel, self.contexts, min(size, left), gamma, self.rounds, draws, generator, certain=self.certain
            )
            self.played += min(size, left)
            self.recent.append(part)
            tally += part.tally
            new = list(part.counts(self.contexts).numpy())
            if self.by_rule:
                new += list(token_rule.counts(part, self.contexts, gamma).numpy())
            counts = new if counts is None else [old + more for old, more in zip(counts, new, strict=True)]
        if counts is None:
            return tally, None
        doubts = []
        for stream, block in zip(self.streams, counts, strict=True):
            stream.blocks.append(block)
            total = np.sum(stream.blocks, axis=0)
            doubts.append(EProcess(stream.law).log_e(total) + np.log(alphas[stream.check]))
        worst = int(np.argmax(doubts))
        return tally, self.streams[worst] if doubts[worst] >= 0 else None


def trials(kernel: Kernel, gamma: int, delta: float, names: Collection[str] | None, by_rule: bool) -> list[Trial]:
    """What is played: one round, one without draft laws, two rounds in a row, and one over a wide vocabulary."""
    block = gamma + 1
    longer = next(depth for depth in (gamma + 3, gamma + 2, block) if 2**depth <= CELLS)
    plans = (
        ("one round", LAWS, vocabulary(block), block, 1, False, None, delta),
        ("no draft law", CERTAIN, vocabulary(block), block, 1, True, None, delta),
        ("two rounds", TWO_ROUNDS, min(3, vocabulary(longer)), longer, 2, False, None, delta),
        ("wide vocabulary", WIDE, 4, 2, 1, False, WIDTH, max(delta, WIDE_DELTA)),
    )
    found = []
    for name, all_names, tokens, depth, rounds, certain, width, visible in plans:
        kept = tuple(each for each in all_names if names is None or each in names)
        if not kept or (certain and not kernel.certain):
            continue
        contexts = build(kept, tokens, depth, width=width, key=name)
        streams = [
            Stream(f"{name}: {context}", number, law, visible)
            for number, (context, law) in enumerate(zip(kept, contexts.joint().numpy(), strict=True))
        ]
        ruled = by_rule and rounds == 1 and depth == block
        if ruled:
            laws = token_rule.law(contexts, gamma, certain=certain).numpy()
            streams += [
                Stream(f"token rule, {name}: {context}", number, law, visible)
                for number, (context, law) in enumerate(zip(kept, laws, strict=True))
            ]
        found.append(Trial(name, contexts, rounds, certain, ruled, streams))
    return found
