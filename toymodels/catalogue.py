"""The toys by name. A name fixes its law for ever: `digests.json` holds the digest of each, and a test compares."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from specverify.catalogue import Catalogue
from specverify.declared import few_sequences
from specverify.model import Model
from specverify.processors import Guided
from toymodels import tables
from toymodels.automata import Recursion, StateModel
from toymodels.dense import dense
from toymodels.eos import eos
from toymodels.guided import guided
from toymodels.hashing import branches, high_bits, seed
from toymodels.markov import markov
from toymodels.penalty import penalty
from toymodels.raster import raster
from toymodels.recurrent import recurrent
from toymodels.redundant import redundant
from toymodels.sharp import sharp
from toymodels.skew import skew
from toymodels.sparse import sparse
from toymodels.switch import switch
from toymodels.synonyms import synonyms
from toymodels.ties import ties
from toymodels.window import window
from toymodels.zero import zero


@dataclass(frozen=True)
class Family:
    """A family of toys.

    Attributes:
        make: (seed, vocab, length) -> its recursion; None where a toy is not one recursion.
        sizes: VOCABxLENGTH of its toys.
        summary: what is special about it.
        tabulated: whether its toys are tables; otherwise their contexts carry the family's own state.
    """

    make: Callable[[int, int, int], Recursion] | None
    sizes: tuple[str, ...]
    summary: str
    tabulated: bool = True


_FAMILIES = {
    "dense": Family(dense, ("2x8", "3x6", "4x6", "5x4", "8x3"), "every token has mass after every prefix"),
    "sparse": Family(sparse, ("3x5", "4x5"), "exact zeros in every law"),
    "ties": Family(ties, ("3x5",), "equal probabilities in every law"),
    "sharp": Family(sharp, ("3x6",), "one token has more than 99% of every law"),
    "skew": Family(skew, ("3x5",), "mass grows with the token id, more steeply at later positions"),
    "zero": Family(zero, ("3x5",), "token id 0 is the most probable one after every prefix"),
    "markov": Family(markov, ("3x6",), "the law depends on the last token alone"),
    "raster": Family(
        raster, ("4x6",), "rows of two pixels and a forced end-of-row token, with left and upper neighbours"
    ),
    "synonyms": Family(synonyms, ("4x5", "6x4"), "two clusters of near-synonyms, whose totals the context sets"),
    "redundant": Family(redundant, ("4x4", "4x6", "6x3", "8x4"), "pairs of copies that later laws cannot tell apart"),
    "eos": Family(eos, ("3x6",), "the last id ends the sequence early"),
    "penalty": Family(penalty, ("3x6",), "every earlier occurrence of a token halves its odds", tabulated=False),
    "window": Family(window, ("3x6",), "only the last three tokens have influence", tabulated=False),
    "recurrent": Family(recurrent, ("3x6",), "an integer state that every token changes", tabulated=False),
    "switch": Family(switch, ("3x6",), "a forbidden token that changes when the last id comes", tabulated=False),
    "guided": Family(
        None, ("2x5", "3x4"), "guidance of 2.5 away from a law with a history of its own", tabulated=False
    ),
}
_LONG = {
    "markov": Family(markov, ("8x32",), "the law depends on the last token alone; for sampling", tabulated=False),
    "hash": Family(dense, ("16x24",), "a dense law by the hash of the whole prefix; for sampling", tabulated=False),
}
_TOYS = Catalogue(
    "toy model",
    {
        f"{kind}-{size}": (family, int(size.split("x")[0]), int(size.split("x")[1]))
        for families in (_FAMILIES, _LONG)
        for kind, family in families.items()
        for size in family.sizes
    },
)
_SAMPLED_ROWS = 256


def names() -> tuple[str, ...]:
    """Every toy's name, family-VOCABxLENGTH."""
    return _TOYS.names()


def toy(name: str, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Model:
    """The toy of that name.

    Raises:
        InputError: there is none; the message lists names that are close.
    """
    family, vocab, length = _TOYS[name]
    if family.make is None:
        return guided(name, vocab, length, dtype, torch.device(device))
    model = StateModel(name, vocab, length, family.make(seed(name), vocab, length), dtype, torch.device(device))
    return tables.tabulate(model) if family.tabulated else model


def enumerable(name: str) -> bool:
    """Whether the toy has few enough sequences (at most 65,536) for its law to be written down."""
    _, vocab, length = _TOYS[name]
    return few_sequences(vocab, length)


def digest(model: Model) -> str:
    """SHA-256 of a model's laws, as little-endian doubles, after vocabulary, length and EOS.

    Over all prefixes, level by level, if there are at most 65,536 sequences; otherwise at every position of 256
    sequences that the hash fixes. The name plays no part. Of a guided model, both laws and the scale count: what
    guidance makes of them has the rounding of logarithms, which differs from machine to machine.
    """
    if isinstance(model, Guided):
        parts = f"{digest(model.conditional)} {digest(model.unconditional)} {model.scale}"
        return hashlib.sha256(parts.encode()).hexdigest()
    if tables.enumerable(model):
        laws = tables.tabulate(model).table
    else:
        sequences = fixed_sequences(_SAMPLED_ROWS, model.vocab, model.length).to(model.device)
        laws = model.laws(model.start(_SAMPLED_ROWS), sequences[:, :-1])
    header = f"{model.vocab} {model.length} {model.eos}\n".encode()
    return hashlib.sha256(header + laws.double().cpu().contiguous().numpy().astype("<f8").tobytes()).hexdigest()


def fixed_sequences(rows: int, vocab: int, length: int) -> Tensor:
    """Pseudo-random sequences, Int[rows, length], the same for ever."""
    hashes = branches(branches(torch.tensor(seed("sequences")), rows), length)
    return high_bits(hashes, 31) % vocab
