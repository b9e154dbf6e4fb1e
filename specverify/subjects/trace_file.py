"""A trace, checked and reduced: laws are read some at a time and dropped, however large the vocabulary.

What stays in memory are some twenty numbers for each token.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify import tree
from specverify.decoders.protocol import Branch
from specverify.errors import BudgetError, InputError
from specverify.evidence.ids import Groups
from specverify.evidence.ranks import UNLISTED, Masses, masses
from specverify.evidence.tokens import TokenStatistics, reduce
from specverify.model import row_mask
from specverify.subjects.trace_given import BELOW, COARSE, REDUCED, ROUNDING, Block, below, coarse, first, given
from specverify.subjects.trace_lists import TOP, rest_last, told_apart
from specverify.subjects.trace_source import Arrays, Source, opened

BLOCK = 1 << 23
"""Probabilities that are read at once."""
LAWS = ("logprobs",)
FORMS = {LAWS: "full laws", TOP: "the most probable tokens and the rest as one outcome", REDUCED: "reduced laws"}
FINEST = 1e-9
"""The smallest tail of a law that is looked at where the law itself is logged."""
OFTEN = 30
"""So often a place of lists has to hold the emitted token: by a law that would have a chance of 2^-30 at most."""


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
        groups: what the laws gave to each group of ids, where the log has them.
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
    groups: Groups | None = None

    @property
    def unlisted(self) -> int:
        """Tokens that were in no list."""
        return 0 if self.masses is None else int((self.masses.place == UNLISTED)[self.counted].sum())

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
            f"top_logprobs, or {', '.join(REDUCED)} (tokens are ids: what draws vectors is judged as it runs)"
        )
    tokens, counted = tokens_of(source)
    for name in form:
        if source.shape(name)[:2] != tuple(tokens.shape) or len(source.shape(name)) != (2 if form is REDUCED else 3):
            raise InputError(
                f"{name} has shape {source.shape(name)}; with tokens {tuple(tokens.shape)} it must be "
                f"{tuple(tokens.shape)}{'' if form is REDUCED else ' and one axis more'}"
            )
    found: Masses | None = None
    named = False
    smaller: Tensor | None = None
    groups: Groups | None = None
    if form is REDUCED:
        statistics = given(source, counted, generator)
        smaller = below(source, counted) if BELOW in names else None
    else:
        parts: list[tuple[TokenStatistics, Masses, Tensor]] = []
        columns = torch.zeros(2, source.shape(form[-1])[2], dtype=torch.int64)
        groups = Groups(tokens, _vocab(source, form, tokens, counted), counted)
        for block in _blocks(tokens, source.shape(form[-1])[2]):
            if time.perf_counter() > deadline:
                done = sum(len(part.pit) for part, *_ in parts)
                raise BudgetError(
                    f"the time was up after {done:,} of {tokens.numel():,} tokens; give more seconds, or a part of them"
                )
            statistics, some, ahead, columns_here = _reduced(source, form, tokens, counted, block, generator, groups)
            parts.append((statistics, some, ahead))
            columns += columns_here
        statistics, found, smaller = tree.map_tensors(
            tree.join(parts), lambda part: part.reshape(*tokens.shape, *part.shape[2:])
        )
        named = form is TOP and _names_it(columns, int(counted.sum()))
    reported = _misreported(source, statistics, found, counted) if found is not None and "logprob" in names else None
    branch = _branches(source, tokens) if "branch" in names else None
    unused = sorted(set(names) - {"tokens", "lengths", "branch", "logprob", BELOW, *form})
    notes = [f"not used: {', '.join(unused)}"] if unused else []
    if any(coarse(source, name) for name in form if name != "top_ids"):
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
        below=smaller,
        groups=groups,
    )


def tokens_of(source: Source) -> tuple[Int[Tensor, "sequences length"], Bool[Tensor, "sequences length"]]:
    """The tokens of a trace, and which of them count.

    Raises:
        InputError: for another shape, or ids and lengths out of range.
    """
    tokens = _whole(source, "tokens")
    if tokens.ndim != 2 or 0 in tokens.shape:
        raise InputError(f"tokens have shape {tuple(tokens.shape)}; a trace has Int[sequences, length], neither 0")
    counted = _counted(source, tokens)
    if bool((bad := counted & (tokens < 0)).any()):
        raise InputError(
            f"tokens hold {int(tokens[bad].min())}, {first(bad)}; ids are at least 0 (give ragged rows by lengths)"
        )
    return tokens, counted


def _whole(source: Source, name: str) -> Int[Tensor, "*shape"]:
    values = source.read(name, slice(None), slice(None))
    if values.dtype.kind not in "iu":
        raise InputError(
            f"{name} has dtype {values.dtype}; give ids, as integers (what draws vectors is judged as it runs)"
        )
    return torch.from_numpy(values.astype(np.int64))


def _branches(source: Source, tokens: Tensor) -> Int[Tensor, "sequences length"]:
    branch = _whole(source, "branch")
    if branch.shape != tokens.shape:
        raise InputError(
            f"branch has shape {tuple(branch.shape)}, tokens {tuple(tokens.shape)}; give one for each token"
        )
    wrong = ((branch < min(Branch)) | (branch > max(Branch))).nonzero()
    if len(wrong):
        row, place = wrong[0].tolist()
        known = ", ".join(f"{int(kind)} {kind.name.lower()}" for kind in Branch)
        raise InputError(
            f"branch holds {int(branch[row, place])}, first in row {row} at position {place}; it is {known}"
        )
    return branch


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


def _blocks(tokens: Tensor, options: int) -> Iterator[Block]:
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
    block: Block,
    generator: np.random.Generator,
    groups: Groups,
) -> tuple[TokenStatistics, Masses, Tensor, Tensor]:
    """The statistics of a block, each token as a row of its own; how often each place of a list has it, and another.

    Before those, the mass of smaller ids; of lists, of those that are listed, and the rest has the largest. The laws of
    what is listed go into the groups.
    """
    emitted, counts = tokens[block].reshape(-1, 1), counted[block].reshape(-1, 1)
    logprobs = _logprobs(source, form[-1], block, counts)
    listed, columns = None, torch.zeros(2, logprobs.shape[1], dtype=torch.int64)
    if form is TOP:
        ids = torch.from_numpy(source.read("top_ids", *block).astype(np.int64)).reshape(len(emitted), -1)
        slack = COARSE if coarse(source, "top_logprobs") else ROUNDING
        same = (ids == emitted) & counts
        columns = torch.stack([same.sum(0), ((ids >= 0) & counts & ~same).sum(0)])
        listed = ids.shape[1]
        token = emitted
        ids, emitted, laws = told_apart(ids, logprobs.exp(), emitted, counts, slack, block)
        ids = ids.clamp(max=groups.vocab - 1)  # what does not count may hold anything
        shape = (block[0].stop - block[0].start, -1, listed)
        groups.add_lists(laws[:, :-1].reshape(shape), ids.reshape(shape), *block)
        # what fills up a list has no mass
        before = torch.cat([(ids < token) | (emitted == listed), torch.zeros_like(token, dtype=torch.bool)], 1)
    else:
        vocab = logprobs.shape[1]
        if bool((bad := counts & (emitted >= vocab)).any()):
            raise InputError(
                f"tokens hold {int(emitted[bad].max())}, but logprobs are of {vocab} tokens, {first(bad, block)}"
            )
        emitted, laws = emitted.where(counts, 0), logprobs.exp()
        off = (laws.sum(1) - 1).abs()
        if bool((bad := off > (COARSE if coarse(source, form[-1]) else ROUNDING)).any()):
            raise InputError(
                f"logprobs do not sum to 1 in probability: they are off by {float(off.max()):.3g}, "
                f"{first(bad, block)}; log them normalised"
            )
        laws = laws / laws.sum(1, keepdim=True)
        before = torch.arange(vocab) < emitted
        groups.add(laws.reshape(block[0].stop - block[0].start, -1, vocab), *block)
    found = masses(laws, emitted[:, 0], listed=listed).where(counts)
    statistics = reduce(laws[:, None, :], emitted, generator, counted=counts)
    if form is TOP:
        statistics = replace(statistics, pit=rest_last(statistics, laws, emitted, generator))
    return (
        statistics,
        found,
        (laws * before).sum(1, keepdim=True),
        columns,
    )


def _names_it(columns: Int[Tensor, "two listed"], counted: int) -> bool:
    """Whether a place of all lists holds the emitted token, or that or none: as where it is put behind the others."""
    same, other = columns
    often = (same >= OFTEN) & (torch.arange(len(same)) > 0)
    return counted > 0 and bool(((same == counted) | (often & (other == 0))).any())


def _vocab(source: Source, form: tuple[str, ...], tokens: Tensor, counted: Tensor) -> int:
    """How many ids there are; of lists, one more than the largest that came or is listed."""
    if form is not TOP:
        return source.shape(form[-1])[2]
    largest = int(tokens.where(counted, 0).max())
    for block in _blocks(tokens, source.shape("top_ids")[2]):
        listed = torch.from_numpy(source.read("top_ids", *block).astype(np.int64))
        largest = max(largest, int(listed.where(counted[block][..., None], 0).max()))
    return largest + 1


def _logprobs(source: Source, name: str, block: Block, counts: Tensor) -> Float[Tensor, "tokens options"]:
    """In double precision; where a token does not count, any law."""
    values = source.read(name, *block)
    if values.dtype.kind != "f":
        raise InputError(f"{name} has dtype {values.dtype}; log-probabilities are floating point")
    flat = torch.from_numpy(values.astype(np.float64)).reshape(len(counts), -1)
    flat = torch.where(counts, flat, -np.log(flat.shape[1]))
    if bool((bad := flat.isnan().any(1)).any()):
        raise InputError(f"{name} holds NaN, {first(bad, block)}")
    if bool((bad := (flat > ROUNDING).any(1)).any()):
        raise InputError(
            f"{name} holds {float(flat.max()):.4g}, {first(bad, block)}; log-probabilities are at most 0 (natural "
            "logarithm)"
        )
    return flat.clamp(max=0)


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
    slack = COARSE if coarse(source, "logprob") else ROUNDING
    # where both are -inf the difference is no number, and nothing is wrong
    apart = torch.where(said == due, 0.0, (said - due).abs()).nan_to_num(nan=torch.inf, posinf=torch.inf)
    apart = torch.where(told, apart, 0.0)
    wrong = apart > slack * (1 + torch.where(due.isfinite(), due.abs(), 0.0))
    return int(told.sum()), int(wrong.sum()), float(apart.max())
