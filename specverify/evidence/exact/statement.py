"""What proofs say together: of which sizes, and up to which error."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence

from specverify.errors import number_of
from specverify.evidence.exact.box import Asked, Box


def statement(
    claim: str,
    boxes: Sequence[Box],
    bits: Sequence[float],
    seed: int,
    orders: int = 0,
    asked: Sequence[Asked | None] = (),
) -> str:
    """What was proved, in a sentence without its end.

    Args:
        claim: what was proved in each box, as its goal has it.
        boxes: the sizes.
        bits: the error of each is at most 2^-bits.
        seed: of all of them.
        orders: how many orders of probabilities they were proved for one by one; 0 if none was compared.
        asked: what of each was, as far as that is known.
    """
    drafts = "target and draft model" if any(box.drafts for box in boxes) else "the target"
    what = "" if claim == "lossless" else f"{claim}, "
    of = ", whose clusters lump in the target" if claim.startswith("cluster-lossless") else ""
    runs = "a random prime" if len(boxes) == 1 else f"{len(boxes)} runs, random primes"
    each = f", in each of {orders:,} orders of what it compares" if orders else ""
    return (
        f"{what}for every law of {drafts}, zeros included{of}: {sizes(boxes)}{each}{_asked(boxes, asked)}; "
        f"error at most 2^-{math.floor(together(bits))} ({runs} of 127 bits, seed {seed})"
    )


def _asked(boxes: Sequence[Box], asked: Sequence[Asked | None]) -> str:
    """How many tokens a step commits, and what never happened in a box of which it is a size."""
    known = [(box, each) for box, each in zip(boxes, asked, strict=False) if each is not None]
    if not known:
        return ""
    most = max(each.tokens for _, each in known)
    never = ["no law of the draft model is read"] if any(box.drafts and not each.drafted for box, each in known) else []
    never += ["no end comes early"] if any(box.eos is not None and not each.ended for box, each in known) else []
    where = " in some of them" if len(known) > 1 else ""
    return "".join([f"; a step commits up to {number_of(most, 'token')}", *(f", {each}{where}" for each in never)])


def sizes(boxes: Sequence[Box]) -> str:
    """The sizes, in words: each with the windows, ends and first drafts that it was proved with, and no others."""
    windows: dict[tuple[int, int, bool, str], set[int]] = defaultdict(set)
    for box in boxes:
        windows[box.vocab, box.length, box.eos is not None, box.initial or ""] |= {box.window or 0}
    ends: dict[tuple[int, int, frozenset[int], str], set[bool]] = defaultdict(set)
    for (vocab, length, end, initial), each in windows.items():
        ends[vocab, length, frozenset(each), initial] |= {end}
    drafts: dict[tuple[int, int, frozenset[int], frozenset[bool]], tuple[str, ...]] = defaultdict(tuple)
    for (vocab, length, wide, initial), both in ends.items():
        drafts[vocab, length, wide, frozenset(both)] += (initial,)
    lengths: dict[tuple[int, frozenset[int], frozenset[bool], tuple[str, ...]], set[int]] = defaultdict(set)
    for (vocab, length, wide, either), initials in drafts.items():
        lengths[vocab, wide, either, initials] |= {length}
    found = sorted(lengths.items(), key=lambda item: (item[0][0], min(item[1])))
    return "; ".join(_size(v, long, wide, either, initials) for (v, wide, either, initials), long in found)


def _size(vocab: int, lengths: set[int], windows: frozenset[int], ends: frozenset[bool], initial: Sequence[str]) -> str:
    parts = [f"{vocab} tokens by {_range(lengths)}"]
    parts += [f"window{'s' if len(windows) > 1 else ''} {_range(windows)}"] if any(windows) else []
    parts += ["with and without an end"] if len(ends) > 1 else ["with an end"] if True in ends else []
    named = [each for each in initial if each]
    return ", ".join(parts) + (f", from {' and '.join(named)} drafts" if named else "")


def together(bits: Sequence[float]) -> float:
    """b such that the error of all proofs together is at most 2^-b; each has 2^-bits."""
    return min(bits) - math.log2(len(bits))


def _range(values: Collection[int]) -> str:
    low, high = min(values), max(values)
    whole = len(values) == high - low + 1
    return str(low) if low == high else f"{low}-{high}" if whole else ", ".join(map(str, sorted(values)))
