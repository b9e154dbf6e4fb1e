"""A trace, checked and reduced: laws are read some at a time and dropped, however large the vocabulary.

What stays in memory are some twenty numbers for each token.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify import tree
from specverify.errors import BudgetError, InputError
from specverify.evidence.tokens import TILTS, TokenStatistics, reduce
from specverify.model import row_mask
from specverify.subjects.trace_source import Arrays, Source, opened

BLOCK = 1 << 23
"""Probabilities that are read at once."""
LAWS = ("logprobs",)
TOP = ("top_ids", "top_logprobs")
REDUCED = ("logprob", "entropy", "variance", "pit_low", "pit_high")
FORMS = {LAWS: "full laws", TOP: "the most probable tokens and the rest as one outcome", REDUCED: "reduced laws"}
ROUNDING, COARSE = 1e-3, 3e-2
"""What may be off in a sum of probabilities, and in one of those logged with 16 bits."""


@dataclass(frozen=True)
class Trace:
    """A trace, reduced.

    Attributes:
        tokens: the emitted tokens, -1 where they do not count.
        counted: the positions that count.
        statistics: of each token.
        branch: where each token came from, if the trace says so.
        tempered: whether the statistics have what `Tempering` needs.
        form: how much was known of the laws.
        notes: what a reader should know of the file.
    """

    tokens: Int[Tensor, "sequences length"]
    counted: Bool[Tensor, "sequences length"]
    statistics: TokenStatistics
    branch: Int[Tensor, "sequences length"] | None
    tempered: bool
    form: str
    notes: tuple[str, ...]

    @property
    def log_p(self) -> Float[Tensor, " sequences"]:
        """The log-probability of each row, or of the outcomes that are told apart; -inf for an impossible one."""
        surprisal = torch.where(self.statistics.impossible, torch.inf, self.statistics.surprisal)
        return -surprisal.where(self.counted, 0.0).sum(1)


def load(source: str | Path | Mapping[str, Any], generator: np.random.Generator, deadline: float = math.inf) -> Trace:
    """Read, check and reduce a trace.

    Args:
        source: a file, or arrays by name.
        generator: of the uniform numbers that make the transforms continuous.
        deadline: when reading must be done, by `time.perf_counter`.

    Raises:
        InputError: for a source that is no trace.
        BudgetError: when the time is up.
    """
    if isinstance(source, str | Path):
        with opened(Path(source)) as arrays:
            return _load(arrays, generator, deadline)
    return _load(Arrays(source), generator, deadline)


def _load(source: Source, generator: np.random.Generator, deadline: float) -> Trace:
    names = source.names()
    form = next((form for form in FORMS if set(form) <= set(names)), None)
    if "tokens" not in names or form is None:
        raise InputError(
            f"the trace holds {', '.join(names) or 'nothing'}; it needs tokens, and logprobs, or top_ids and "
            f"top_logprobs, or {', '.join(REDUCED)}"
        )
    tokens = _whole(source, "tokens")
    if tokens.ndim != 2 or 0 in tokens.shape:
        raise InputError(f"tokens have shape {tuple(tokens.shape)}; a trace has Int[sequences, length], neither 0")
    if int(tokens.min()) < 0:
        raise InputError(f"tokens hold {int(tokens.min())}; token ids are at least 0 (give ragged rows by lengths)")
    counted = _counted(source, tokens)
    for name in form:
        if source.shape(name)[:2] != tuple(tokens.shape) or len(source.shape(name)) != (2 if form is REDUCED else 3):
            raise InputError(
                f"{name} has shape {source.shape(name)}; with tokens {tuple(tokens.shape)} it must be "
                f"{tuple(tokens.shape)}{'' if form is REDUCED else ' and one axis more'}"
            )
    if form is REDUCED:
        statistics = _given(source, counted, generator)
    else:
        parts: list[TokenStatistics] = []
        for block in _blocks(tokens, source.shape(form[-1])[2]):
            if time.perf_counter() > deadline:
                done = sum(len(part.pit) for part in parts)
                raise BudgetError(
                    f"the time was up after {done:,} of {tokens.numel():,} tokens; give more seconds, or a part of them"
                )
            parts.append(_reduced(source, form, tokens, counted, block, generator))
        statistics = tree.map_tensors(tree.join(parts), lambda part: part.reshape(*tokens.shape, *part.shape[2:]))
    branch = _whole(source, "branch") if "branch" in names else None
    if branch is not None and branch.shape != tokens.shape:
        raise InputError(
            f"branch has shape {tuple(branch.shape)}, tokens {tuple(tokens.shape)}; give one for each token"
        )
    unused = sorted(set(names) - {"tokens", "lengths", "branch", *form})
    notes = [f"not used: {', '.join(unused)}"] if unused else []
    if any(source.coarse(name) for name in form if name != "top_ids"):
        notes.append("the laws were logged with 16 bits: what is seen may be their rounding")
    return Trace(tokens.where(counted, -1), counted, statistics, branch, form is not REDUCED, FORMS[form], tuple(notes))


def _whole(source: Source, name: str) -> Int[Tensor, "*shape"]:
    values = source.read(name, slice(None), slice(None))
    if values.dtype.kind not in "iu":
        raise InputError(f"{name} has dtype {values.dtype}; it holds integers")
    return torch.from_numpy(values.astype(np.int64))


def _counted(source: Source, tokens: Tensor) -> Bool[Tensor, "sequences length"]:
    sequences, length = tokens.shape
    if "lengths" not in source.names():
        return torch.ones_like(tokens, dtype=torch.bool)
    lengths = _whole(source, "lengths")
    if tuple(lengths.shape) != (sequences,) or int(lengths.min()) < 0 or int(lengths.max()) > length:
        raise InputError(
            f"lengths have shape {tuple(lengths.shape)} and hold {int(lengths.min())}..{int(lengths.max())}; give one "
            f"for each of the {sequences} sequences, from 0 to {length}"
        )
    return row_mask(lengths, length)


def _blocks(tokens: Tensor, options: int) -> Iterator[tuple[slice, slice]]:
    """Rows and positions, in order: many whole rows, or a part of one where a row is too much at once."""
    sequences, length = tokens.shape
    fits = max(1, BLOCK // max(1, options))
    if fits >= length:
        for row in range(0, sequences, fits // length):
            yield slice(row, min(sequences, row + fits // length)), slice(0, length)
        return
    for row in range(sequences):
        for position in range(0, length, fits):
            yield slice(row, row + 1), slice(position, min(length, position + fits))


def _reduced(
    source: Source,
    form: tuple[str, ...],
    tokens: Tensor,
    counted: Tensor,
    block: tuple[slice, slice],
    generator: np.random.Generator,
) -> TokenStatistics:
    """The statistics of a block, each token as a row of its own."""
    emitted, counts = tokens[block].reshape(-1, 1), counted[block].reshape(-1, 1)
    logprobs = _logprobs(source, form[-1], block, counts)
    if form is TOP:
        ids = torch.from_numpy(source.read("top_ids", *block).astype(np.int64)).reshape(len(emitted), -1)
        slack = COARSE if source.coarse("top_logprobs") else ROUNDING
        emitted, laws = _with_rest(ids, logprobs.exp(), emitted, counts, slack)
    else:
        vocab = logprobs.shape[1]
        if int(emitted.where(counts, 0).max()) >= vocab:
            raise InputError(f"tokens hold {int(emitted.max())}, but logprobs are of {vocab} tokens")
        emitted, laws = emitted.where(counts, 0), logprobs.exp()
        off = float((laws.sum(1) - 1).abs().max())
        if off > (COARSE if source.coarse(form[-1]) else ROUNDING):
            raise InputError(f"logprobs do not sum to 1 in probability: they are off by {off:.3g}; log them normalised")
        laws = laws / laws.sum(1, keepdim=True)
    return reduce(laws[:, None, :], emitted, generator, counted=counts)


def _logprobs(source: Source, name: str, block: tuple[slice, slice], counts: Tensor) -> Float[Tensor, "tokens options"]:
    """In double precision; where a token does not count, any law."""
    values = source.read(name, *block)
    if values.dtype.kind != "f":
        raise InputError(f"{name} has dtype {values.dtype}; log-probabilities are floating point")
    flat = torch.from_numpy(values.astype(np.float64)).reshape(len(counts), -1)
    flat = torch.where(counts, flat, -np.log(flat.shape[1]))
    if bool(flat.isnan().any()):
        raise InputError(f"{name} holds NaN")
    if float(flat.max()) > ROUNDING:
        raise InputError(f"{name} holds {float(flat.max()):.4g}; log-probabilities are at most 0 (natural logarithm)")
    return flat.clamp(max=0)


def _with_rest(ids: Tensor, top: Tensor, emitted: Tensor, counts: Tensor, slack: float) -> tuple[Tensor, Tensor]:
    """The emitted outcome, a place in the list or the rest behind it, and the law over those."""
    twice = ids.sort(1).values.diff(dim=1) == 0
    if bool((twice & counts).any()):
        raise InputError("top_ids name a token twice at one position; list each once")
    rest = 1 - top.sum(1, keepdim=True)
    if bool(((rest < -slack) & counts).any()):
        raise InputError(f"top_logprobs sum to {float(1 - rest.min()):.4g} in probability at one position")
    laws = torch.cat([top, rest.clamp(min=0)], 1)
    is_listed = ids == emitted
    place = torch.where(is_listed.any(1), is_listed.int().argmax(1), ids.shape[1])
    return place[:, None], laws / laws.sum(1, keepdim=True)


def _given(source: Source, counted: Tensor, generator: np.random.Generator) -> TokenStatistics:
    """Statistics that the engine has reduced itself."""
    values = {}
    for name in REDUCED:
        array = source.read(name, slice(None), slice(None))
        if array.dtype.kind != "f":
            raise InputError(f"{name} has dtype {array.dtype}; it is floating point")
        values[name] = torch.where(counted, torch.from_numpy(array.astype(np.float64)), 0.0)
        if bool(values[name].isnan().any()):
            raise InputError(f"{name} holds NaN")
    low, high, p = values["pit_low"], values["pit_high"], values["logprob"].exp()
    if bool((counted & ((low < -ROUNDING) | (high > 1 + ROUNDING) | (p > 1 + ROUNDING))).any()):
        raise InputError("pit_low and pit_high lie between 0 and 1, and logprob is at most 0")
    off = float(torch.where(counted, (high - low - p).abs(), 0.0).max())
    if off > ROUNDING:
        raise InputError(f"pit_high - pit_low differs from exp(logprob) by up to {off:.3g}; both are p(x)")
    if bool((counted & ((values["entropy"] < 0) | (values["variance"] < 0))).any()):
        raise InputError("entropy and variance are at least 0")
    uniform = torch.from_numpy(generator.random(tuple(counted.shape)))
    choice = counted & (values["entropy"] > 0)
    impossible = counted & (p == 0)
    return TokenStatistics(
        pit=torch.where(choice, (low + uniform * (high - low)).clamp(0, 1), uniform),
        surprisal=torch.where(impossible, 0.0, -values["logprob"]),
        entropy=values["entropy"],
        variance=values["variance"],
        tilted=torch.zeros(*counted.shape, len(TILTS), dtype=torch.float64),
        open=choice,
        impossible=impossible,
    )
