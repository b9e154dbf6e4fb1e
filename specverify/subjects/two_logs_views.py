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
    length, kinds, none = tokens.shape[2], int(tokens.max(initial=0)) + 1, tokens < 0
    yield "frequencies", [View(tokens, tokens, "tokens", "token {}")]
    position = np.broadcast_to(np.arange(length), tokens.shape)
    placed = View(
        np.where(none, -1, position * kinds + tokens),
        position * BLOCKS // length,
        "tokens at positions",
        f"part {{}} of {BLOCKS} of a row",
    )
    yield "frequencies by position", [placed]
    if len(np.unique(prompt)) > 1:
        of = np.broadcast_to(np.unique(prompt, return_inverse=True)[1].reshape(-1, 1), tokens.shape)
        named = np.broadcast_to(prompt.reshape(-1, 1), tokens.shape)
        behind = View(np.where(none, -1, of * kinds + tokens), named, "tokens behind a prompt", "prompt {}")
        yield "frequencies by prompt", [behind]
    if length > 1:
        yield "neighbours", [_apart(tokens, 1, kinds)]
    if length > 2:
        yield "threes", [_threes(tokens, kinds)]
        yield "distances", [_apart(tokens, lag, kinds) for lag in distances(tokens[:, learning])]


def distances(tokens: Tokens) -> list[int]:
    """The distances of 2 and more at which tokens depend most on each other."""
    length = tokens.shape[2]
    every = tokens.reshape(-1, length)
    # Neither log comes before the other.
    step = max(1, every.size // SAMPLE)
    small = np.where(every < 0, -1, every * 40503 // 8 % KINDS)[::step].astype(np.int64)
    last = min(length - 1, FARTHEST)
    scores = np.array([_dependence(small[:, :-lag], small[:, lag:]) for lag in range(2, last + 1)])
    return sorted((2 + np.argsort(-scores, kind="stable")[:DISTANCES]).tolist())


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


def _apart(tokens: Tokens, lag: int, kinds: int) -> View:
    """Two tokens, so many places apart; grouped by the first."""
    first, second = tokens[:, :, :-lag], tokens[:, :, lag:]
    what = "two neighbours" if lag == 1 else f"two tokens {lag} places apart"
    where = "behind token {}" if lag == 1 else f"{lag} places behind token {{}}"
    return View(np.where(second < 0, -1, first * kinds + second), first, what, where, 2)


def _threes(tokens: Tokens, kinds: int) -> View:
    first, second, last = tokens[:, :, :-2], tokens[:, :, 1:-1], tokens[:, :, 2:]
    outcome = np.where(last < 0, -1, (first * kinds + second) * kinds + last)
    return View(outcome, None, "three tokens in a row", "", 3)
