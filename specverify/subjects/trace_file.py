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
from specverify.evidence.ranks import Masses, masses
from specverify.evidence.tokens import TILTS, TokenStatistics, reduce
from specverify.model import row_mask
from specverify.subjects.trace_source import Arrays, Source, opened

BLOCK = 1 << 23
"""Probabilities that are read at once."""
LAWS = ("logprobs",)
TOP = ("top_ids", "top_logprobs")
BELOW = "below"
REDUCED = ("logprob", "entropy", "variance", "pit_low", "pit_high")
FORMS = {LAWS: "full laws", TOP: "the most probable tokens and the rest as one outcome", REDUCED: "reduced laws"}
ROUNDING, COARSE = 1e-3, 3e-2
"""What may be off in a sum of probabilities, and in one of those logged with 16 bits."""
FINEST = 1e-9
"""The smallest tail of a law that is looked at where the law itself is logged."""


@dataclass(frozen=True)
class Trace:
    """A trace, reduced.

    Attributes:
        tokens: the emitted tokens, -1 where they do not count.
        counted: the positions that count.
        statistics: of each token.
        masses: what the laws gave to each rank, where the log has them.
        branch: where each token came from, if the trace says so.
        tempered: whether the statistics have what `Tempering` needs.
        form: how much was known of the laws.
        notes: what a reader should know of the file.
        finest: the smallest probability that the log's precision tells from 0, beside 1.
        named: whether one place of the lists names the emitted token everywhere, so that they were made after it.
        misreported: of the emitted tokens' log-probabilities, logged beside the laws: how many there are, how many
            are not what the laws say, and by how much at most; None where they are not logged.
        below: the mass of smaller ids than the emitted one, where the log has them.
    """

    tokens: Int[Tensor, "sequences length"]
    counted: Bool[Tensor, "sequences length"]
    statistics: TokenStatistics
    masses: Masses | None
    branch: Int[Tensor, "sequences length"] | None
    tempered: bool
    form: str
    notes: tuple[str, ...]
    finest: float
    named: bool
    misreported: tuple[int, int, float] | None
    below: Float[Tensor, "sequences length"] | None = None

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
    found: Masses | None = None
    named = False
    below: Tensor | None = None
    if form is REDUCED:
        statistics = _given(source, counted, generator)
        below = _below(source, counted) if BELOW in names else None
    else:
        parts: list[tuple[TokenStatistics, Masses, Tensor]] = []
        columns = torch.ones(source.shape(form[-1])[2], dtype=torch.bool)
        for block in _blocks(tokens, source.shape(form[-1])[2]):
            if time.perf_counter() > deadline:
                done = sum(len(part.pit) for part, *_ in parts)
                raise BudgetError(
                    f"the time was up after {done:,} of {tokens.numel():,} tokens; give more seconds, or a part of them"
                )
            statistics, some, ahead, columns_here = _reduced(source, form, tokens, counted, block, generator)
            parts.append((statistics, some, ahead))
            columns &= columns_here
        statistics, found, below = tree.map_tensors(
            tree.join(parts), lambda part: part.reshape(*tokens.shape, *part.shape[2:])
        )
        named = form is TOP and bool(columns.any())
    reported = _misreported(source, statistics, found, counted) if found is not None and "logprob" in names else None
    branch = _whole(source, "branch") if "branch" in names else None
    if branch is not None and branch.shape != tokens.shape:
        raise InputError(
            f"branch has shape {tuple(branch.shape)}, tokens {tuple(tokens.shape)}; give one for each token"
        )
    unused = sorted(set(names) - {"tokens", "lengths", "branch", "logprob", BELOW, *form})
    notes = [f"not used: {', '.join(unused)}"] if unused else []
    if any(_coarse(source, name) for name in form if name != "top_ids"):
        notes.append("the laws were logged with 16 bits: what is seen may be their rounding")
    return Trace(
        tokens=tokens.where(counted, -1),
        counted=counted,
        statistics=statistics,
        masses=found,
        branch=branch,
        tempered=form is not REDUCED,
        form=FORMS[form],
        notes=tuple(notes),
        finest=min(0.1, max(FINEST, 1e3 * source.digits("pit_low"))) if form is REDUCED else FINEST,
        named=named,
        misreported=reported,
        below=below,
    )


def _coarse(source: Source, name: str) -> bool:
    """Whether it holds floating-point numbers of 16 bits or less."""
    return source.digits(name) > 1e-4


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
) -> tuple[TokenStatistics, Masses, Tensor, Tensor]:
    """The statistics of a block, each token as a row of its own; and the places of a list that always name it.

    Before those, the mass of smaller ids; of lists, of those that are listed, and the rest has the largest.
    """
    emitted, counts = tokens[block].reshape(-1, 1), counted[block].reshape(-1, 1)
    logprobs = _logprobs(source, form[-1], block, counts)
    listed, columns = None, torch.zeros(logprobs.shape[1], dtype=torch.bool)
    if form is TOP:
        ids = torch.from_numpy(source.read("top_ids", *block).astype(np.int64)).reshape(len(emitted), -1)
        slack = COARSE if _coarse(source, "top_logprobs") else ROUNDING
        columns = ((ids == emitted) | ~counts).all(0)
        listed = ids.shape[1]
        token = emitted
        emitted, laws = _with_rest(ids, logprobs.exp(), emitted, counts, slack)
        before = torch.cat([(ids < token) | (emitted == listed), torch.zeros_like(token, dtype=torch.bool)], 1)
    else:
        vocab = logprobs.shape[1]
        if int(emitted.where(counts, 0).max()) >= vocab:
            raise InputError(f"tokens hold {int(emitted.max())}, but logprobs are of {vocab} tokens")
        emitted, laws = emitted.where(counts, 0), logprobs.exp()
        off = float((laws.sum(1) - 1).abs().max())
        if off > (COARSE if _coarse(source, form[-1]) else ROUNDING):
            raise InputError(f"logprobs do not sum to 1 in probability: they are off by {off:.3g}; log them normalised")
        laws = laws / laws.sum(1, keepdim=True)
        before = torch.arange(vocab) < emitted
    found = masses(laws, emitted[:, 0], listed=listed)
    found = Masses(found.mass * counts[..., None], found.place)
    return (
        reduce(laws[:, None, :], emitted, generator, counted=counts),
        found,
        (laws * before).sum(1, keepdim=True),
        columns,
    )


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
    _check_moments(values, counted, COARSE if any(_coarse(source, name) for name in REDUCED) else ROUNDING)
    uniform = torch.from_numpy(generator.random(tuple(counted.shape)))
    # rounding leaves an entropy of 0 to laws that are all but certain, never to others (`_check_moments`)
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


def _below(source: Source, counted: Tensor) -> Float[Tensor, "sequences length"]:
    """The mass of smaller ids, where the engine logs it beside what it has reduced."""
    array = source.read(BELOW, slice(None), slice(None))
    if array.shape != tuple(counted.shape) or array.dtype.kind != "f":
        raise InputError(
            f"{BELOW} has shape {array.shape} and dtype {array.dtype}; give one floating-point number for each of the "
            f"tokens {tuple(counted.shape)}"
        )
    below = torch.where(counted, torch.from_numpy(array.astype(np.float64)), 0.0)
    if not bool(((below >= -ROUNDING) & (below <= 1 + ROUNDING)).all()):
        raise InputError(f"{BELOW} lies between 0 and 1: it is the mass of the ids below the emitted one")
    return below


def _check_moments(values: Mapping[str, Tensor], counted: Tensor, slack: float) -> None:
    """Refuse an entropy or a variance that no law has which gives the emitted token its probability and its place.

    Of the mass ahead of the token each part is at most all of it, and of the mass behind it at most p(x): so much
    entropy there is at least. The surprisal is off its mean by d with probability p(x), so its variance is at least
    p d^2 / (1 - p).
    """
    p, low = values["logprob"].exp(), values["pit_low"].clamp(0, 1)
    behind = (1 - low - p).clamp(0, 1)
    own = torch.where(p > 0, -values["logprob"], 0.0)
    least = torch.special.entr(low) + p * own + behind * own
    off = torch.where(p > 0, own - values["entropy"], 0.0)
    spread = p * off**2 / (1 - p).clamp(min=slack)
    allowed = slack * (2 + own)
    for name, bound in (("entropy", least), ("variance", spread)):
        short = counted & (values[name] < bound - allowed * (1 if name == "entropy" else 2 + own))
        if bool(short.any()):
            row, position = (int(i) for i in short.nonzero()[0])
            raise InputError(
                f"{name} contradicts the rest of the log at {int(short.sum()):,} tokens: it is "
                f"{float(values[name][row, position]):.4g} in row {row} at position {position}, where logprob "
                f"{float(values['logprob'][row, position]):.4g} and pit_low {float(low[row, position]):.4g} leave at "
                f"least {float(bound[row, position]):.4g}; log all of them from the law that the token was drawn from"
            )


def _misreported(source: Source, statistics: TokenStatistics, found: Masses, counted: Tensor) -> tuple[int, int, float]:
    """How many log-probabilities of emitted tokens are logged beside the laws, how many are wrong, and how far."""
    array = source.read("logprob", slice(None), slice(None))
    if array.shape != tuple(counted.shape) or array.dtype.kind != "f":
        raise InputError(
            f"logprob has shape {array.shape} and dtype {array.dtype}; give one floating-point number for each of the "
            f"tokens {tuple(counted.shape)}"
        )
    said = torch.from_numpy(array.astype(np.float64))
    due = torch.where(statistics.impossible, -torch.inf, -statistics.surprisal)
    told = counted & (found.place < found.mass.shape[2] - 1)
    slack = COARSE if _coarse(source, "logprob") else ROUNDING
    # where both are -inf the difference is no number, and nothing is wrong
    apart = torch.where(said == due, 0.0, (said - due).abs()).nan_to_num(nan=torch.inf, posinf=torch.inf)
    apart = torch.where(told, apart, 0.0)
    wrong = apart > slack * (1 + torch.where(due.isfinite(), due.abs(), 0.0))
    return int(told.sum()), int(wrong.sum()), float(apart.max())
