"""What the places of two logs' rows are looked at as: tokens, neighbours, threes, prompts, positions, tokens above."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int

from specverify.evidence.learned import View

BLOCKS = 16
"""Parts of a row that are looked at by themselves."""
DISTANCES = 16
"""At so many places before a token, those on which it depends most, another is looked at with it."""
FARTHEST = 4096
"""The largest distance."""
SAMPLE = 200_000
"""Tokens by which distances are chosen."""
KINDS = 64
"""Of tokens, there."""
TRIPLES = 4
"""Of these distances, the nearest ones, that are looked at with the token before, too."""
PERIODS = (8, 16, 32)
"""Windows and lines of images, whose places are looked at by themselves."""
MANY = 1 << 16
"""Ids from which on they are numbered anew, since three of them are one number."""
Tokens = Int[np.ndarray, "2 rows length"]


def views(
    tokens: Tokens, prompt: Int[np.ndarray, " rows"], learning: Bool[np.ndarray, " rows"]
) -> Iterator[tuple[str, list[View]]]:
    """Each check's name and what it looks at.

    Args:
        tokens: of both logs, row by row of one prompt; -1 behind an end.
        prompt: which.
        learning: the rows that are learned from, by which distances are chosen.
    """
    length, none = tokens.shape[2], tokens < 0
    code = tokens if tokens.max(initial=0) < MANY else np.unique(tokens, return_inverse=True)[1].reshape(tokens.shape)
    code = np.where(none, -1, code)
    kinds = int(code.max(initial=0)) + 1
    position = np.broadcast_to(np.arange(length), tokens.shape)
    block = position * BLOCKS // length
    parts = [(block, f"part {{}} of {BLOCKS} of a row")]
    yield "frequencies", [View(code, "tokens", [(tokens, "token {}")])]
    yield "frequencies by position", [View(np.where(none, -1, position * kinds + code), "tokens at positions", parts)]
    several, of = len(np.unique(prompt)) > 1, np.unique(prompt, return_inverse=True)[1].reshape(-1, 1)
    named = [(np.broadcast_to(prompt.reshape(-1, 1), tokens.shape), "prompt {}")]
    lengths = (~none).sum(2)
    if several:
        yield "frequencies by prompt", [View(np.where(none, -1, of * kinds + code), "tokens behind a prompt", named)]
        if none.any():
            last = np.take_along_axis(code, np.maximum(lengths - 1, 0)[..., None], 2)
            yield (
                "ends by prompt",
                [
                    View((of.ravel() * (length + 1) + lengths)[..., None], "lengths behind a prompt"),
                    View(np.where(last < 0, -1, of * kinds + last), "last tokens behind a prompt"),
                ],
            )
    if length > 1:
        pairs = _apart(code, 1, kinds)
        ending = np.minimum((lengths[..., None] - 1 - position) // 8, BLOCKS)
        places = [(x[:, :, 1:], words) for x, words in (*parts, (ending, "eight {} from the end"),
                  *((position % period, f"place {{}} of every {period}") for period in PERIODS))]  # fmt: skip
        looked = [View(pairs, "two neighbours", [(tokens[:, :, :-1], "behind token {}"), *places], 2)]
        if several:
            behind = np.where(pairs < 0, -1, of * kinds**2 + pairs)
            looked.append(View(behind, "two neighbours behind a prompt", [(x[:, :, 1:], y) for x, y in named], 2))
        yield "neighbours", looked
    if length > 2:
        lags = distances(code[:, learning])
        earlier = [(tokens[:, :, :-lag], f"{lag} places behind token {{}}") for lag in lags]
        yield "distances", [View(_apart(code, lag, kinds), f"two tokens {lag} places apart", [group], 2)
                            for lag, group in zip(lags, earlier, strict=True)]  # fmt: skip
        # Of an image what stands to the left and above together.
        yield "threes", [
            View(_threes(code, 2, kinds), "three tokens in a row", (), 3),
            *(View(_threes(code, lag, kinds), f"tokens with the one before and that {lag} places before", (), 3)
              for lag in lags[:TRIPLES] if lag > 2),
        ]  # fmt: skip


def distances(tokens: Tokens) -> list[int]:
    """The distances of 2 and more at which tokens depend most on each other."""
    length = tokens.shape[2]
    step = max(1, tokens.size // SAMPLE)
    small = np.where(tokens < 0, -1, tokens * 40503 // 8 % KINDS)[:, ::step].astype(np.int64)
    last = min(length - 1, FARTHEST)
    # In either log: what they have together might cancel.
    scores = [max(_dependence(each[:, :-lag], each[:, lag:]) for each in small) for lag in range(2, last + 1)]
    return sorted((2 + np.argsort(-np.array(scores), kind="stable")[:DISTANCES]).tolist())


def _dependence(one: np.ndarray, two: np.ndarray) -> float:
    """Chi-square of independence, in its standard deviations."""
    there = (one >= 0) & (two >= 0)
    table = np.bincount(one[there] * KINDS + two[there], minlength=KINDS * KINDS).reshape(KINDS, KINDS).astype(float)
    if not table.any():
        return -np.inf
    due = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    free = max(1, (int((table.sum(1) > 0).sum()) - 1) * (int((table.sum(0) > 0).sum()) - 1))
    score = ((table - due) ** 2 / np.maximum(due, 1e-9)).sum()
    return float((score - free) / np.sqrt(2 * free))


def _apart(code: Tokens, lag: int, kinds: int) -> Tokens:
    """Two tokens, so many places apart."""
    first, second = code[:, :, :-lag], code[:, :, lag:]
    return np.where(second < 0, -1, first * kinds + second)


def _threes(code: Tokens, lag: int, kinds: int) -> Tokens:
    """A token, the one before, and the one so many places before."""
    first, second, last = code[:, :, :-lag], code[:, :, lag - 1 : -1], code[:, :, lag:]
    return np.where(last < 0, -1, (first * kinds + second) * kinds + last)
