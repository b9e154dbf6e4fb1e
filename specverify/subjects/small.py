"""Small models that decoders are tried on, to find out in which ways they can be run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from specverify.claims import Claim, ClusterLossless
from specverify.evidence.cases import Weights, lumped
from toymodels.tables import prefixes


def tiny(claim: Claim) -> Iterator[Weights]:
    """Small models of every kind: tables and recursions, with and without an end, of two tokens and more."""
    if isinstance(claim, ClusterLossless):
        yield _lumped(claim.partition, 2)
        yield _lumped(claim.partition, 3)
        return
    for vocab, length in ((2, 3), (3, 2), (4, 2), (5, 2), (8, 2)):
        guided = replace(mixed(vocab, length), guide=_rows(prefixes(vocab, length) + 1, vocab)[1:])
        for span, end in ((None, vocab - 1), (2, vocab // 2)):
            for eos in (None, end):
                yield mixed(vocab, length, eos, span)
            if span is None:
                yield guided


def larger(claim: Claim) -> tuple[Weights, ...]:
    """Models that are longer, for decoders that do something else there."""
    return () if isinstance(claim, ClusterLossless) else (mixed(2, 5), mixed(3, 4), mixed(2, 8), LONG)


def mixed(vocab: int, length: int, eos: int | None = None, span: int | None = None) -> Weights:
    """A model with a law of its own after each prefix, or after each of the last `span` tokens."""
    return Weights(vocab, length, _rows(prefixes(vocab, length), vocab), eos, span)


def drafting(model: Weights) -> Weights:
    """A draft model for a small one: its laws, by contexts in reverse, seen by the whole prefix."""
    if model.span is None:
        return replace(model, weights=model.weights[::-1], processors="", guide=None)
    contexts = prefixes(model.vocab, model.length)
    rows = (model.weights[::-1] * contexts)[:contexts]
    return replace(model, weights=rows, span=None, processors="", guide=None)


def _lumped(partition: tuple[tuple[int, ...], ...], length: int) -> Weights:
    vocab = sum(map(len, partition))
    totals = _rows(prefixes(len(partition), length), len(partition))
    shares = [_rows(prefixes(vocab, length), len(cluster)) for cluster in partition]
    return Weights(vocab, length, lumped(partition, length, totals, shares))


def _rows(contexts: int, size: int) -> tuple[tuple[int, ...], ...]:
    """Different weights from 1 to 4 after each context, without a pattern that a decoder could share."""
    return tuple(tuple(1 + (7 * c * c + 3 * x * c + 5 * x) % 4 for x in range(size)) for c in range(contexts))


LONG = mixed(2, 12)
"""A model that shows what is done in longer sequences only."""
