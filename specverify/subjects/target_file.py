"""A target of one's own in a file: the law of every token after every prefix.

numpy.savez("mine.npz", p0=[0.5, 0.5], p1=[[0.9, 0.1], [0.2, 0.8]])

p0    Float[vocab]                 of the first token
p1    Float[vocab, vocab]          p1[a] is the law of the second token after a
p2    Float[vocab, vocab, vocab]   p2[a, b] that of the third after a, b; and so on, one array for each position
eos   Int[], where there is one    the token that ends a sequence; laws behind it are not looked at
"""

from __future__ import annotations

import math
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from specverify.declared import few_sequences
from specverify.errors import InputError
from specverify.evidence.cases import Weights
from toymodels.tables import TableModel, prefixes

SUFFIX = ".npz"
SUM = 1e-6
"""How far from 1 the sum of a law may be: what float32 makes of it. It is made 1 then."""
ROUNDED, SIMPLE = 1e-12, 1_000
"""A law is taken for one of fractions with denominators up to `SIMPLE` if these are so close to it."""


def load(path: Path | str) -> TableModel:
    """The target that a file holds.

    Raises:
        InputError: it cannot be read, or an array is missing, unknown, of another shape or no law.
    """
    arrays = _arrays(Path(path))
    eos = _eos(arrays.pop("eos", None), path)
    names = [f"p{place}" for place in range(len(arrays))]
    if not arrays or set(arrays) != set(names):
        raise InputError(
            f"{path} holds the arrays {', '.join(sorted(arrays)) or 'of no position'}; write p0, p1, p2 and so on, one "
            "for each position, and eos if a token ends a sequence"
        )
    vocab = arrays["p0"].shape[0] if arrays["p0"].ndim == 1 else 0
    if vocab < 2:
        raise InputError(f"{path}: p0 has the shape {arrays['p0'].shape}; it is the first token's law, Float[vocab]")
    if eos is not None and not 0 <= eos < vocab:
        raise InputError(f"{path}: eos is {eos}; with {vocab} tokens it is one of 0..{vocab - 1}")
    if not few_sequences(vocab, len(names)):
        raise InputError(
            f"{path}: {vocab} tokens and {len(names)} positions make more than 65,536 sequences; use fewer"
        )
    levels = [_laws(arrays[name], name, place, vocab, eos, path) for place, name in enumerate(names)]
    return TableModel(Path(path).stem, torch.from_numpy(np.concatenate(levels)), len(names), eos=eos)


def weights(model: TableModel) -> Weights:
    """The same law in integers, exactly; but where its numbers stand for simple fractions, as 1/3, it is these."""
    return Weights(model.vocab, model.length, tuple(_integers(row) for row in model.table.tolist()), model.eos)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise InputError(f"{path} is no file of arrays ({error}); write it with numpy.savez") from None


def _eos(given: np.ndarray | None, path: Path | str) -> int | None:
    if given is None:
        return None
    if given.size != 1 or given.dtype.kind not in "iu":
        raise InputError(f"{path}: eos has the shape {given.shape} and {given.dtype}; it is one integer, a token")
    return int(given.reshape(()))


def _laws(given: np.ndarray, name: str, place: int, vocab: int, eos: int | None, path: Path | str) -> np.ndarray:
    """The laws of one position, in the order of their prefixes."""
    due = (vocab,) * (place + 1)
    if given.shape != due or given.dtype.kind not in "fiu":
        raise InputError(
            f"{path}: {name} has the shape {given.shape} and {given.dtype}; with {vocab} tokens it is Float{list(due)}"
        )
    laws = given.astype(np.float64)
    if eos is not None:
        ended = (np.indices(due[:-1]) == eos).any(0) if place else np.zeros((), dtype=bool)
        laws[ended] = 1 / vocab
    wrong = ~((laws >= 0).all(-1) & (abs(laws.sum(-1) - 1) <= SUM))  # NaN is neither
    if wrong.any():
        where = tuple(int(index) for index in np.argwhere(wrong)[0])
        row = laws[where]
        raise InputError(
            f"{path}: {name}{list(where) if where else ''} is {row.tolist()}, which sums to {row.sum():.6g}; a law has "
            "numbers of at least 0 that sum to 1"
        )
    flat: np.ndarray = (laws / laws.sum(-1, keepdims=True)).reshape(-1, vocab)
    assert len(flat) == prefixes(vocab, place + 1) - prefixes(vocab, place)
    return flat


def _integers(row: list[float]) -> tuple[int, ...]:
    """Weights in proportion to a law."""
    law = [Fraction(chance).limit_denominator(SIMPLE) for chance in row]
    if sum(law) != 1 or any(abs(one - chance) > ROUNDED for one, chance in zip(law, row, strict=True)):
        law = [Fraction(chance) for chance in row]
    common = math.lcm(*(one.denominator for one in law))
    return tuple(int(one * common) for one in law)
