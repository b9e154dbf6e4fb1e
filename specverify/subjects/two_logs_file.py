"""A log that is held against another: its tokens, what the engine says of them, and as many rows of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from specverify.errors import InputError
from specverify.subjects.trace_file import tokens_of
from specverify.subjects.trace_source import Arrays, Source, opened

ROUNDING = 1e-3
"""By how much a log-probability may be above 0."""


@dataclass(frozen=True)
class Log:
    """One log.

    Attributes:
        tokens: -1 behind a row's end.
        logprob: of each token by the engine's account, 0 behind the end; None if it is not logged.
        prompt: which prompt each row answers; 0 if that is not logged.
        named: whether it is logged.
        ends: whether it is known where rows end.
    """

    tokens: Int[np.ndarray, "rows length"]
    logprob: Float[np.ndarray, "rows length"] | None
    prompt: Int[np.ndarray, " rows"]
    named: bool
    ends: bool

    def rows(self, chosen: np.ndarray, length: int) -> Log:
        """Some of its rows, as wide as is asked."""
        wide = [(0, 0), (0, length - self.tokens.shape[1])]
        logprob = None if self.logprob is None else np.pad(self.logprob, wide)[chosen]
        return replace(
            self,
            tokens=np.pad(self.tokens, wide, constant_values=-1)[chosen],
            logprob=logprob,
            prompt=self.prompt[chosen],
        )


@dataclass(frozen=True)
class Pair:
    """As many rows of both.

    Attributes:
        order: the first rows of each as they came, to look for copies.
        left: which were not compared, in words that a sentence may end with; empty if all were.
    """

    one: Log
    two: Log
    order: tuple[np.ndarray, np.ndarray]
    left: str = ""


def load(source: str | Path | Mapping[str, Any]) -> Log:
    """Read a log.

    Raises:
        InputError: it is none, naming the array and the value.
    """
    if not isinstance(source, str | Path):
        return _read(Arrays(source))
    with opened(Path(source)) as arrays:
        return _read(arrays)


def _read(source: Source) -> Log:
    names = source.names()
    if "tokens" not in names:
        raise InputError(f"the log holds {', '.join(names) or 'nothing'}; it needs tokens, Int[rows, positions]")
    found, mask = tokens_of(source)
    tokens, counted = found.numpy(), mask.numpy()
    logprob = None
    if "logprob" in names or "logprobs" in names:
        name = "logprob" if "logprob" in names else "logprobs"
        logprob = np.asarray(source.read(name, slice(None), slice(None)), dtype=np.float64)
        if logprob.shape[:2] != tokens.shape or logprob.ndim != 2 + (name == "logprobs"):
            raise InputError(f"{name} has shape {logprob.shape}, tokens {tokens.shape}; give one for each token")
        if name == "logprobs":
            logprob = np.take_along_axis(logprob, tokens[..., None], 2)[..., 0]
        logprob = np.where(counted, logprob, 0.0)
        if np.isneginf(logprob).any():
            row, place = (int(at) for at in np.argwhere(np.isneginf(logprob))[0])
            raise InputError(
                f"{name} of the token at position {place} of row {row} is -inf, and it was emitted; log what it was "
                "drawn from"
            )
        if np.isnan(logprob).any() or (logprob > ROUNDING).any():
            raise InputError(f"{name} holds {logprob.max():.4g}; log-probabilities are numbers of at most 0")
    prompt = np.zeros(len(tokens), dtype=np.int64)
    if "prompt" in names:
        prompt = np.asarray(source.read("prompt", slice(None), slice(None)))
        if prompt.shape != (len(tokens),) or prompt.dtype.kind not in "iu":
            raise InputError(f"prompt has shape {prompt.shape} and {prompt.dtype}; give one integer for each row")
    return Log(np.where(counted, tokens, -1), logprob, prompt.astype(np.int64), "prompt" in names, not counted.all())


def paired(one: Log, two: Log, generator: np.random.Generator) -> Pair:
    """As many rows of both from each prompt, permuted.

    Raises:
        InputError: there are none.
    """
    if one.named != two.named:
        raise InputError("one log has prompts and the other has none; give both the array prompt, or neither")
    widths = [log.tokens.shape[1] for log in (one, two)]
    if widths[0] != widths[1] and not (one.ends and two.ends):
        raise InputError(
            f"the logs' rows have {widths[0]} and {widths[1]} positions; say where rows end (lengths), or cut them to "
            "as many"
        )
    length = max(widths)
    shuffled = [generator.permutation(len(log.tokens)) for log in (one, two)]
    chosen: list[list[np.ndarray]] = [[], []]
    for prompt in np.intersect1d(one.prompt, two.prompt):
        both = [order[log.prompt[order] == prompt] for log, order in zip((one, two), shuffled, strict=True)]
        count = min(map(len, both))
        for rows, mine in zip(chosen, both, strict=True):
            rows.append(mine[:count])
    if not chosen[0] or sum(map(len, chosen[0])) < 2:
        prompts = "of the same prompts; sample both engines on the same prompts" if one.named else "each; log more"
        raise InputError(f"the logs have no two rows {prompts}")
    first, second = (np.concatenate(rows) for rows in chosen)
    count = min(len(one.tokens), len(two.tokens))
    whole = [log.rows(np.arange(count), length).tokens for log in (one, two)]
    mixed = generator.permutation(len(first))
    left = _left(one, two, len(first))
    return Pair(one.rows(first[mixed], length), two.rows(second[mixed], length), (whole[0], whole[1]), left)


def _left(one: Log, two: Log, compared: int) -> str:
    """Which rows were not compared, in words."""
    rows = [f"{len(log.tokens) - compared:,} of {which}" for log, which in ((one, "A"), (two, "B"))
            if len(log.tokens) > compared]  # fmt: skip
    if not rows:
        return ""
    alone = [np.setdiff1d(x.prompt, y.prompt) for x, y in ((one, two), (two, one))]
    why = [f"{len(x):,} prompts, such as {x[0]}, are in {which} alone"
           for x, which in zip(alone, "AB", strict=True) if len(x)]  # fmt: skip
    return f"; {' and '.join(rows)} were not compared: " + (" and ".join(why) or "the other log has fewer")
