"""What is played by sampling: one round, one without q, two in a row, and other vocabularies, dtypes and windows.

Kernels have paths of their own for a vocabulary that fills tiles, for drafts without a law, for half precision and for
long windows, and slips where two of these meet. So vocabularies and long windows are played with and without q; and
each dtype over a vocabulary of which every token counts, since sums of many small numbers are what it is bad at.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import torch

from specverify.evidence.result import TOTAL_VARIATION
from specverify.subjects.rounds import token_rule
from specverify.subjects.rounds.contexts import CELLS, Contexts, build, vocabulary
from specverify.subjects.rounds.kernel import Kernel
from specverify.subjects.rounds.kinds import SLOTS, STRIDE, TILE
from specverify.subjects.rounds.sampling import Stream, Trial, View

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
CERTAIN = ("dense", "sparse target", "sharp", "top-k", "greedy", "one-hot draft")
TWO_ROUNDS = ("dense", "sparse target", "one-hot draft", "greedy")
WIDE = ("dense", "other support")
WIDTHS, WIDEST = (16, 64, 256, 1031), 33_013
"""Sizes of wide vocabularies, of which four tokens can come: those that fill the tiles of kernels, and two primes, of
which the last leaves two of the four behind whole tiles, whatever these are."""
EVERY, FULL = 1031, ("dense", "early")
"""Size of a vocabulary of which (nearly) all tokens can come, and its laws."""
TILED = (1024, 4096, 32_768)
"""The same where no dtype rounds a law, and tokens are counted by their tile and by their place in it."""
SINGLE = (64, EVERY)
"""Of these sizes, those for a kernel that takes a row at a time: it is slow, and dtypes round its logarithms."""
DTYPES = (torch.bfloat16, torch.float16, torch.float64)
"""What laws are also given in, where the kernel takes it."""
COARSE = 0.1
"""What has to be seen over a wide vocabulary, and in other dtypes."""
COARSER = 0.2
"""And where as many tokens can come."""
SEEN = dict(zip(TILED, (COARSE, COARSER, 0.3), strict=True))
"""The same of tiles, and of places in them."""
WINDOWS = (8, 16)
"""Windows of more drafts than were asked for; by turns one or two of their slots have a choice."""
OPEN = ("dense", "tied")
"""Laws of two tokens that leave a choice at every slot, where that makes no more sequences than can be counted."""
LONG = (
    f"{TOTAL_VARIATION} of what rounds emit that turn on a slot, or on two that are {STRIDE} apart, in windows of more "
    "drafts, each by itself"
)
WHOLE = f"{TOTAL_VARIATION} of what rounds emit in windows of more drafts, of which every slot has a choice"
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
    found, coarse = list[Trial](), max(delta, COARSE)
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
        found.append(
            Trial(plan.name, contexts, plan.rounds, plan.certain, ruled, gamma, streams, plan.dtype, plan.beside)
        )
    if names is None or "tiles" in names:
        for vocab, dtype, bare in itertools.product(TILED, (None, *DTYPES), (False, True)):
            if _meet(kernel, vocab, dtype, bare):
                found.append(_in_tiles(vocab, dtype, bare, gamma, max(delta, SEEN[vocab])))
        if kernel.batch != "single":
            found.append(_in_tiles(TILED[0], None, False, gamma, coarse, "equal tiles"))
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
    single = kernel.batch == "single"
    for width in (*WIDTHS, WIDEST):
        if not single or width in SINGLE:
            name, seen = f"{width:,} tokens", max(delta, SEEN[TILED[-1]]) if width == WIDEST else coarse
            yield _Plan(name, WIDE, 4, 2, seen, width=width, beside=True)
            yield _Plan(
                f"{name}, {NO_LAW}", ("dense", "one-hot draft"), 4, 2, seen, certain=True, width=width, beside=True
            )
    yield _Plan(f"each of {EVERY:,} tokens", FULL, EVERY, 1, coarser, beside=True)
    for dtype, without in itertools.product(() if single else DTYPES, (False, True)):
        name = _word(dtype) + f", {NO_LAW}" * without
        kind = "certain sixteenths" if without else "sixteenths"
        yield _Plan(name, (kind,), min(size, 3), block, coarse, certain=without, dtype=dtype, beside=True)


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _meet(kernel: Kernel, vocab: int, dtype: torch.dtype | None, bare: bool) -> bool:
    """Whether a vocabulary of which all tokens can come is played with this."""
    if kernel.batch == "single" or (bare and not kernel.certain):
        return False
    if vocab == TILED[-1]:  # few, for what they cost: drafts without a law where sums are coarse
        return bare == (dtype is not None) and dtype != torch.float64
    return dtype is None or vocab == TILED[0] or bare


def _in_tiles(
    vocab: int, dtype: torch.dtype | None, bare: bool, gamma: int, delta: float, laws: str = "tiles"
) -> Trial:
    """A trial over a vocabulary of which all tokens can come, at the first position and at the one behind it.

    There the law is uniform, of the target as of the drafts: behind drafts that are kept, a bonus token is met there by
    a kernel that has no rows without drafts.
    """
    kind = "" if dtype is None else f"{_word(dtype)}, "
    name = f"{kind}each of {vocab:,} tokens" + f", {NO_LAW}" * bare + f", {laws}" * (laws != "tiles")
    contexts = replace(build((laws,), vocab, 1, key=name), depth=2)
    each = contexts.p[0].double().reshape(2, -1, TILE)
    streams = [
        Stream(f"{name}: {view}", 0, law / law.sum(), delta, ROUGH, view)
        for position in (0, 1)
        for view, law in (
            (View(position, inside=False), each[position].sum(1).numpy()),
            (View(position, inside=True), each[position].sum(0).numpy()),
        )
    ]
    return Trial(name, contexts, 1, bare, False, gamma, streams, dtype, beside=True)


def windows(kernel: Kernel, gamma: int) -> tuple[int, ...]:
    """The longer windows that a kernel is tried with; none for one that takes a row at a time, and so is slow."""
    return tuple(window for window in WINDOWS if window > gamma and kernel.batch != "single")


def _long(window: int, names: tuple[str, ...], delta: float, certain: bool) -> Trial:
    name, contexts = f"window of {window}" + f", {NO_LAW}" * certain, slots_of(window, names)
    name += ", every slot" * (names[0] in OPEN)
    streams = [
        Stream(f"{name}: {context}", number, law, delta, WHOLE if names[0] in OPEN else LONG)
        for number, (context, law) in enumerate(zip(names, contexts.joint().numpy(), strict=True))
    ]
    return Trial(name, contexts, 1, certain, False, window, streams)


def slots_of(window: int, names: tuple[str, ...] = SLOTS) -> Contexts:
    """Contexts of two tokens in which a slot or two of so many have something at stake."""
    return build(names, 2, window + 1, key="long windows")
