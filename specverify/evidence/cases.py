"""Small settings to judge a decoder in: a model in integer weights, a draft model, a window, an arrangement of rows.

A case is plain data, so that it can be drawn, shrunk, compared, printed and written down; its models are made from it.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

import toymodels
from specverify.decoders.registry import Settings
from specverify.errors import InputError
from specverify.evidence.arrange import ARRANGEMENTS, Arrangement
from specverify.evidence.rounding import PRECISIONS
from specverify.model import Model
from specverify.processors import Guided, Processed, parse_processors
from toymodels import strategies
from toymodels.automata import Recursion, StateModel, shifted
from toymodels.tables import TableModel, prefixes

EXCEPTIONS, EXCEPTIONAL = 6, 40
"""At most so many contexts have a law of their own, out of so many in the largest drawn model."""
PROCESSORS = (
    "",
    "top_k=1",
    "top_k=2",
    "temperature=0.5",
    "top_p=0.75",
    "temperature=0.7,top_k=2",
    "temperature=1.5,top_k=3,top_p=0.8",
    "min_p=0.4,temperature=2",
)
SCALE = 3.0
"""Of classifier-free guidance: what image models use lies between 2 and 10."""
SHARP = 20_000_000
"""A weight beside which others are improbable, below 1e-6, as in the tails of real models."""
FAR = 8
"""Longest sequence of two tokens that is drawn."""


@dataclass(frozen=True)
class Weights:
    """A model whose laws are ratios of small integers.

    Attributes:
        vocab, length: its sizes.
        weights: the law, up to a factor, after each of `contexts()`.
        eos: the id that ends a sequence early, or None.
        span: None if the law depends on the whole prefix, which is the model's context; else on the last `span` tokens
            only, which the context keeps as its `state`.
        processors: applied to these laws, as on the command line.
        guide: weights of an unconditional law after the same contexts; the model is then classifier-free guidance of
            the one by the other, with `SCALE` (`processors.Guided`, which shows both to decoders that ask).

    Raises:
        InputError: if the numbers do not fit together.
    """

    vocab: int
    length: int
    weights: tuple[tuple[int, ...], ...]
    eos: int | None = None
    span: int | None = None
    processors: str = ""
    guide: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        if self.vocab < 1 or self.length < 1 or (self.span is not None and self.span < 1):
            raise InputError(
                f"a model of {self.vocab} tokens, length {self.length}, span {self.span}; all are at least 1"
            )
        if self.eos is not None and not 0 <= self.eos < self.vocab:
            raise InputError(f"eos {self.eos} is outside the vocabulary 0..{self.vocab - 1}")
        contexts = self.laws(self.vocab, self.length, self.span)
        if len(self.weights) != contexts:
            raise InputError(
                f"{len(self.weights)} laws are given; {self.vocab} tokens and length {self.length} have {contexts} "
                "contexts"
            )
        if self.guide is not None and len(self.guide) != len(self.weights):
            raise InputError(f"{len(self.guide)} unconditional laws are given for {len(self.weights)} contexts")
        for row in (*self.weights, *(self.guide or ())):
            if len(row) != self.vocab or min(row) < 0 or sum(row) < 1:
                raise InputError(f"{row} are no weights: {self.vocab} integers of at least 0, not all 0")

    @staticmethod
    def laws(vocab: int, length: int, span: int | None) -> int:
        """How many contexts there are."""
        return prefixes(vocab, length if span is None else min(length, span + 1))

    def _depth(self) -> int:
        return self.length if self.span is None else min(self.length, self.span + 1)

    def contexts(self) -> list[tuple[int, ...]]:
        """What a law can depend on: token prefixes, or the last tokens of one, level by level."""
        return [c for n in range(self._depth()) for c in itertools.product(range(self.vocab), repeat=n)]

    def model(self, name: str = "drawn", dtype: torch.dtype = torch.float64) -> Model:
        """The model: a table, or a recursion over its `state`, with guidance and processors around it."""
        made = self._of(self.weights, name, dtype)
        if self.guide is not None:
            made = Guided(made, self._of(self.guide, f"{name}-unconditional", dtype), SCALE)
        return Processed(made, parse_processors(self.processors)) if self.processors else made

    def _of(self, weights: tuple[tuple[int, ...], ...], name: str, dtype: torch.dtype) -> Model:
        # As floats: what a search draws may be beyond 64 bits.
        table = torch.tensor([[float(weight) for weight in row] for row in weights], dtype=torch.float64)
        if self.span is None:
            laws = (table / table.sum(-1, keepdim=True)).to(dtype)
            return TableModel(name, laws, self.length, eos=self.eos)
        return StateModel(name, self.vocab, self.length, self._recursion(table), dtype, torch.device("cpu"))

    def _recursion(self, table: Float[Tensor, "contexts vocab"]) -> Recursion:
        assert self.span is not None
        initial = (self.vocab,) * self.span

        def follow(position: Tensor, state: Tensor) -> Tensor:
            code, seen = torch.zeros_like(position), torch.zeros_like(position)
            for token in state.unbind(1):
                code = torch.where(token < self.vocab, code * self.vocab + token, code)
                seen = seen + (token < self.vocab).long()
            starts = torch.tensor([prefixes(self.vocab, n) for n in range(len(initial) + 1)])
            return table[(starts[seen] + code).clamp(max=len(table) - 1)]

        return Recursion(initial=initial, update=shifted, weights=follow, eos=self.eos)


@dataclass(frozen=True)
class Case:
    """A setting.

    Attributes:
        model: weights, or a toy's name.
        draft: for decoders that take a draft model: weights, or a kind of draft model for toys.
        window: draft tokens per pass; None for a decoder that came with its own.
        initial: the initial drafts, where they can be chosen.
        arrangement: of the rows.
        precision: floating type of the model's laws, by name.

    Raises:
        InputError: for an arrangement or a precision that there is not.
    """

    model: Weights | str
    draft: Weights | str | None = None
    window: int | None = None
    initial: str | None = None
    arrangement: Arrangement = "together"
    precision: str = "float64"

    def __post_init__(self) -> None:
        if self.arrangement not in ARRANGEMENTS:
            raise InputError(f"unknown arrangement {self.arrangement!r}; choose one of {', '.join(ARRANGEMENTS)}")
        if self.precision not in PRECISIONS:
            raise InputError(f"unknown precision {self.precision!r}; choose one of {', '.join(PRECISIONS)}")

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the laws."""
        return PRECISIONS[self.precision]

    def target(self) -> Model:
        """The target model."""
        if isinstance(self.model, str):
            return toymodels.toy(self.model, self.dtype)
        return self.model.model(dtype=self.dtype)

    def settings(self, target: Model) -> Settings:
        """What the decoder is built from."""
        if isinstance(self.draft, str):
            draft: Model | None = toymodels.draft(self.draft, target)
        else:
            draft = None if self.draft is None else self.draft.model("drawn-draft", self.dtype)
        initial: Any = self.initial or "repeat-left"
        return Settings(self.window or 1, initial, draft)


@dataclass(frozen=True)
class Space:
    """What cases are drawn from; in each tuple the simplest comes first.

    Attributes:
        vocab, length: smallest and largest.
        far: the largest length with two tokens, where that is more.
        windows, initials, drafts, arrangements, precisions: choices; `drafts` says whether there is a draft model.
        guided: whether the target is a pair of laws, one guided by the other; such models have no processors, no zeros,
            and the first precision.
        eos: whether an id ends the sequence: the last one, the first, or one between them.
        spans: see `Weights`.
        processors: of the target model.
        partition: clusters whose sequence has a law of its own: their totals depend on the clusters before alone. Such
            models are tables, without processors.
    """

    vocab: tuple[int, int] = (2, 3)
    length: tuple[int, int] = (1, 4)
    far: int = 0
    windows: tuple[int | None, ...] = (1, 2, 3)
    initials: tuple[str | None, ...] = (None,)
    drafts: tuple[bool, ...] = (False,)
    eos: tuple[bool, ...] = (False, True)
    spans: tuple[int | None, ...] = (None, 2, 1)
    processors: tuple[str, ...] = PROCESSORS
    arrangements: tuple[Arrangement, ...] = ("together", "ragged")
    precisions: tuple[str, ...] = ("float64",)
    guided: tuple[bool, ...] = (False,)
    partition: tuple[tuple[int, ...], ...] | None = None

    def cases(self) -> st.SearchStrategy[Case]:
        """A strategy whose examples shrink to short sequences, few tokens, few different laws and small weights."""
        return _cases(self)


@st.composite
def _cases(draw: strategies.Draw, space: Space) -> Case:
    def choose(options: tuple[Any, ...]) -> Any:
        return draw(_one_of(options)) if len(options) > 1 else options[0]

    low, high = space.length
    # Long sequences are seldom drawn, since they cost most.
    lengths = [*range(low, high + 1)] * 3 + [*range(high + 1, space.far + 1)] * (space.vocab[0] == 2)
    length = choose(tuple(lengths))
    vocab = draw(st.integers(*space.vocab)) if length <= high else 2
    span, ends, processors = choose(space.spans), choose(space.eos), choose(space.processors)
    eos = choose((vocab - 1, 0, vocab // 2)) if ends else None
    contexts = prefixes(vocab, length if span is None else min(length, span + 1))
    guide = None
    if space.partition is None:
        weights = _few(draw, contexts, vocab)
        if choose(space.guided):
            # Where a token is impossible the ratio of two laws is undefined, and in float32 it loses its digits.
            processors, weights, guide = "", _possible(weights), _possible(_few(draw, contexts, vocab))
    else:
        span, processors, weights = None, "", _lumped(draw, space.partition, vocab, length)
    model = Weights(vocab, length, weights, eos, span, processors, guide)
    draft = None
    if choose(space.drafts):
        draft = Weights(vocab, length, _few(draw, prefixes(vocab, length), vocab), eos)
    places = choose(space.windows), choose(space.initials), choose(space.arrangements)
    return Case(model, draft, *places, choose(space.precisions) if guide is None else space.precisions[0])


def _few(draw: strategies.Draw, contexts: int, vocab: int) -> tuple[tuple[int, ...], ...]:
    """A row of weights for every context, out of a few: one for all, by the last token, or mixed; with exceptions.

    How much is drawn does not depend on the number of contexts, so that an example can shrink to a shorter sequence.
    """
    rows = draw(_laws(vocab))
    if any(weight == max(strategies.WEIGHTS) for row in rows for weight in row) and draw(_EITHER):
        rows = [tuple(SHARP if weight == max(strategies.WEIGHTS) else weight for weight in row) for row in rows]
    rule = draw(_RULE)
    # In level order the children of a context are neighbours, one for each last token; context 0 is the empty one.
    numbers = range(contexts)
    if rule == "one":
        numbered = [0 for _ in numbers]
    elif rule == "last":
        numbered = [n and (n - 1) % vocab + 1 for n in numbers]
    else:
        numbered = [n * n * 7 >> 2 for n in numbers]
    table = [rows[number % len(rows)] for number in numbered]
    for exception, row in draw(_EXCEPTIONS):
        table[exception % contexts] = rows[row % len(rows)]
    return tuple(table)


# Made once, since hypothesis looks a new strategy over each time.
_EITHER, _RULE = st.booleans(), st.sampled_from(("one", "last", "mixed"))
_PLACE = st.integers(0, EXCEPTIONAL - 1)
_EXCEPTIONS = st.lists(st.tuples(_PLACE, _PLACE), max_size=EXCEPTIONS)


@functools.lru_cache(maxsize=64)
def _laws(vocab: int) -> st.SearchStrategy[list[tuple[int, ...]]]:
    return st.lists(strategies.rows(vocab), min_size=1, max_size=strategies.LAWS)


@functools.lru_cache(maxsize=256)
def _one_of(options: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    return st.sampled_from(options)


def _possible(weights: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(max(1, weight) for weight in row) for row in weights)


def _lumped(
    draw: strategies.Draw, partition: tuple[tuple[int, ...], ...], vocab: int, length: int
) -> tuple[tuple[int, ...], ...]:
    totals = _few(draw, prefixes(len(partition), length), len(partition))
    shares = [_few(draw, prefixes(vocab, length), len(cluster)) for cluster in partition]
    return lumped(partition, length, totals, shares)


def lumped(
    partition: tuple[tuple[int, ...], ...],
    length: int,
    totals: Sequence[Sequence[int]],
    shares: Sequence[Sequence[Sequence[int]]],
) -> tuple[tuple[int, ...], ...]:
    """Weights whose clusters have a law of their own: their totals depend on the clusters before alone.

    Args:
        partition: of the vocabulary.
        length: positions.
        totals: for each prefix of clusters, each cluster's weight.
        shares: for each cluster, for each prefix of tokens, its tokens' weights within it.
    """
    number = {token: k for k, cluster in enumerate(partition) for token in cluster}
    rows = []
    contexts = [c for n in range(length) for c in itertools.product(range(len(number)), repeat=n)]
    for place, context in enumerate(contexts):
        code = 0
        for token in context:
            code = code * len(partition) + number[token]
        total = totals[prefixes(len(partition), len(context)) + code]
        common = math.lcm(*(sum(share[place]) for share in shares))
        row = [0] * len(number)
        for k, cluster in enumerate(partition):
            for token, part in zip(cluster, shares[k][place], strict=True):
                row[token] = total[k] * part * (common // sum(shares[k][place]))
        rows.append(tuple(row))
    return tuple(rows)
