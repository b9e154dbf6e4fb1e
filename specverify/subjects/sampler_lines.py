"""At which lines of a program a token is settled, told by all worlds of it: where to look for what made it wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SHOWN = 3
"""Lines that are named, those that settle most first."""


@dataclass(frozen=True)
class Path:
    """A world as it is remembered.

    Attributes:
        tokens: that it returned.
        taken: the outcome of each of its draws, in order.
        lines: where each was made, as file:line, or "" where that is not in the program.
        probability: of the world.
    """

    tokens: tuple[int, ...]
    taken: tuple[int, ...]
    lines: tuple[str, ...]
    probability: float


def settled(paths: Iterable[Path], prefix: Sequence[int]) -> str:
    """Where the token behind a prefix is settled, in words: by the draw after which only one token can come.

    Args:
        paths: every world, or all but such of next to no chance.
        prefix: of the tokens.

    Returns:
        Such as "settled at loop.py:11 (60%), loop.py:13 (40%)"; empty if no line of the program settles it.
    """
    here = [path for path in paths if path.tokens[: len(prefix)] == tuple(prefix)]
    possible: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
    for path in here:
        for depth in range(len(path.taken) + 1):
            possible[path.taken[:depth]].add(path.tokens[len(prefix)])
    shares: Counter[str] = Counter()
    for path in here:
        depths = range(len(path.taken))
        last = next(
            (d for d in depths if len(possible[path.taken[:d]]) > 1 == len(possible[path.taken[: d + 1]])), None
        )
        if last is not None:
            shares[path.lines[last]] += path.probability  # type: ignore[assignment]
    total = sum(path.probability for path in here)
    named = [(line, share / total) for line, share in shares.most_common(SHOWN) if line and share > 0]
    return f"settled at {', '.join(f'{line} ({share:.0%})' for line, share in named)}" if named else ""
