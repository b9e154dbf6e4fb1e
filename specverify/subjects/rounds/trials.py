"""What is played by sampling: one round, one without q, two in a row, and other vocabularies, dtypes and windows.

Kernels have paths of their own for a vocabulary that fills tiles, for drafts without a law, for half precision and for
long windows, and slips where two of these meet. So vocabularies and long windows are played with and without q; and
each dtype over a vocabulary of which every token counts, since sums of many small numbers are what it is bad at.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from specverify.evidence.result import TOTAL_VARIATION
from specverify.subjects.rounds import token_rule
from specverify.subjects.rounds.contexts import CELLS, Contexts, build, vocabulary
from specverify.subjects.rounds.kernel import Kernel
from specverify.subjects.rounds.kinds import SLOTS
from specverify.subjects.rounds.sampling import Stream, Trial

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
WIDTHS = (16, 64, 256, 1031, 4096, 32_000)
"""Sizes of wide vocabularies, of which four tokens can come: those that fill the tiles of kernels, and a prime."""
WIDEST = 4096
"""Beyond it little is played."""
EVERY, FULL = 1031, ("dense", "early")
"""Size of a vocabulary of which (nearly) all tokens can come, and its laws."""
EXACT, TILE = 1024, 128
"""The same in each dtype, where no law is rounded; and tokens beside each other that are counted together, too."""
DTYPES = (torch.bfloat16, torch.float16, torch.float64)
"""What laws are also given in, where the kernel takes it."""
COARSE = 0.1
"""What has to be seen over a wide vocabulary, and in other dtypes."""
COARSER = 0.2
"""And over as many tokens, or in the widest vocabulary."""
WINDOWS = (8, 16)
"""Windows of more drafts than were asked for; by turns one or two of their slots have a choice."""
OPEN = ("dense", "tied")
"""Laws of two tokens that leave a choice at every slot, where that makes no more sequences than can be counted."""
LONG = (
    f"{TOTAL_VARIATION} of what rounds emit that turn on a slot or two in windows of more drafts, each slot by itself"
)
ROUGH = f"{TOTAL_VARIATION} over wide vocabularies or in other dtypes"
NO_LAW = "no draft law"


@dataclass(frozen=True)
class _Plan:
    """A trial to be made; the names are those of `Trial` and `contexts.build`."""

    name: str
    laws: tuple[str, ...]
    tokens: int
    depth: int
    delta: float
    rounds: int = 1
    certain: bool = False
    width: int | None = None
    dtype: torch.dtype | None = None
    beside: bool = False


def trials(kernel: Kernel, gamma: int, delta: float, names: Collection[str] | None, by_rule: bool) -> list[Trial]:
    """All that is played.

    Args:
        kernel: what is judged; it says what it takes.
        gamma: slots for drafts.
        delta: what has to be seen in contexts of few tokens.
        names: of the contexts, if not all.
        by_rule: whether the token rule's own laws are tested, too.
    """
    found, coarse = [], max(delta, COARSE)
    for plan in _plans(kernel, gamma, delta):
        kept = tuple(each for each in plan.laws if names is None or each in names)
        if not kept or (plan.certain and not kernel.certain):
            continue
        contexts = build(kept, plan.tokens, plan.depth, width=plan.width, key=plan.name)
        streams = [
            Stream(f"{plan.name}: {context}", number, law, plan.delta, ROUGH if plan.delta > delta else TOTAL_VARIATION)
            for number, (context, law) in enumerate(zip(kept, contexts.joint().numpy(), strict=True))
        ]
        ruled = by_rule and plan.rounds == 1 and plan.depth == gamma + 1 and plan.dtype is None
        if ruled:
            laws = token_rule.law(contexts, gamma, certain=plan.certain).numpy()
            streams += [
                Stream(f"token rule, {plan.name}: {context}", number, law, plan.delta)
                for number, (context, law) in enumerate(zip(kept, laws, strict=True))
            ]
        if plan.tokens == EXACT:
            streams += [
                Stream(f"{each.check}, in tiles", each.context, _tiled(each.law), coarse, ROUGH, TILE)
                for each in streams
            ]
        found.append(
            Trial(plan.name, contexts, plan.rounds, plan.certain, ruled, gamma, streams, plan.dtype, plan.beside)
        )
    for window in windows(kernel, gamma):
        ways = [(SLOTS, bare) for bare in (False, True) if kernel.certain or not bare]
        ways += [(OPEN, False)] * (2 ** (window + 1) <= CELLS)
        for choices, bare in ways:
            if kept := tuple(each for each in choices if names is None or each in names):
                found.append(_long(window, kept, coarse, bare))
    return found


def _plans(kernel: Kernel, gamma: int, delta: float) -> Iterator[_Plan]:
    block = gamma + 1
    longer = next(depth for depth in (gamma + 3, gamma + 2, block) if 2**depth <= CELLS)
    size, three = vocabulary(block), min(3, vocabulary(longer))
    coarse, coarser = max(delta, COARSE), max(delta, COARSER)
    yield _Plan("one round", LAWS, size, block, delta)
    yield _Plan(NO_LAW, CERTAIN, size, block, delta, certain=True)
    yield _Plan("two rounds", TWO_ROUNDS, three, longer, delta, rounds=2)
    for width in WIDTHS:
        visible, name = coarse if width <= WIDEST else coarser, f"{width:,} tokens"
        yield _Plan(name, WIDE, 4, 2, visible, width=width, beside=True)
        yield _Plan(f"{name}, {NO_LAW}", CERTAIN[:2], 4, 2, visible, certain=True, width=width, beside=True)
    yield _Plan(f"each of {EVERY:,} tokens", FULL, EVERY, 1, coarser, beside=True)
    for dtype, bare in itertools.product((None, *DTYPES), (False, True)):
        if dtype is not None and kernel.batch == "single":
            continue  # those conventions take logarithms, which other dtypes round
        name, without = str(dtype).removeprefix("torch."), f", {NO_LAW}" * bare
        if dtype is not None:
            few = min(size, 3)
            yield _Plan(f"{name}{without}", ("sixteenths",), few, block, coarse, certain=bare, dtype=dtype, beside=True)
        every = f"{f'{name}, ' * (dtype is not None)}each of {EXACT:,} tokens{without}"
        yield _Plan(every, ("dyadic",), EXACT, 1, coarser, certain=bare, dtype=dtype, beside=True)


def _tiled(law: Float[np.ndarray, " outcomes"]) -> Float[np.ndarray, " tiles"]:
    return np.asarray(law.reshape(-1, TILE).sum(1))


def windows(kernel: Kernel, gamma: int) -> tuple[int, ...]:
    """The longer windows that a kernel is tried with; none for one that takes a row at a time, and so is slow."""
    return tuple(window for window in WINDOWS if window > gamma and kernel.batch != "single")


def _long(window: int, names: tuple[str, ...], delta: float, certain: bool) -> Trial:
    name, contexts = f"window of {window}" + f", {NO_LAW}" * certain, slots_of(window, names)
    name += ", every slot" * (names[0] in OPEN)
    streams = [
        Stream(f"{name}: {context}", number, law, delta, TOTAL_VARIATION if names[0] in OPEN else LONG)
        for number, (context, law) in enumerate(zip(names, contexts.joint().numpy(), strict=True))
    ]
    return Trial(name, contexts, 1, certain, False, window, streams)


def slots_of(window: int, names: tuple[str, ...] = SLOTS) -> Contexts:
    """Contexts of two tokens in which a slot or two of so many have something at stake."""
    return build(names, 2, window + 1, key="long windows")
