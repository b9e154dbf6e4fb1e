"""Which models a decoder is proved on, and in which settings.

The toys by name, and small models beside them that are there for what the toys lack: long sequences of two tokens,
twelve tokens, improbable tokens as in the tails of real models, processors one after the other, guidance, float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch

import toymodels
from specverify.claims import Claim, ClusterLossless
from specverify.evidence.cases import Case, Weights
from specverify.model import Model
from specverify.subjects.modes import Mode
from toymodels.catalogue import enumerable
from toymodels.tables import prefixes, tabulate

VARIED = ("dense-2x8", "sparse-3x5", "ties-3x5")
"""Toys on which every kind of draft model and of initial draft is tried."""
THREE = "sparse-3x5"
"""The toy of three tokens that is tried in every window."""
SINGLE = (*VARIED, "eos-3x6", "markov-3x6")
"""Toys that are tried in float32, too."""
FAR = ((3, 6, 4), (3, 7, 5), (3, 8, 6), (2, 11, 8))
"""Tokens, positions and window of models with one choice, anywhere."""
PROCESSED = ("temperature=0.7,top_k=3,top_p=0.8", "temperature=1.5,top_k=4,min_p=0.2", "top_p=0.9,temperature=2")
_STEEP = ((10**8, 3, 1), (1, 10**8, 10**8), (2, 1, 10**7), (1, 1, 10**9), (3, 4, 5))


def suite(
    modes: Sequence[Mode], claim: Claim, toys: Sequence[str] | None = None, own: Weights | str | None = None
) -> list[tuple[Mode, Case]]:
    """Every model that suits (of the toys that are named, those alone), in several windows; cheap ones first.

    A model of somebody's own (`own`) is one of them.

    Toys of two tokens, and one of three, are tried in every window up to their length, and beyond it; the
    others in windows of 1, of 2 or 3, and beyond the length. A claim of clusters is judged where the clusters have a
    law of their own, one that depends on the clusters before alone: elsewhere no rule that looks at one token at a time
    could keep it.
    """
    found: list[tuple[int, Mode, Case]] = []
    for mode in modes:
        cases = list(_on_toys(mode, claim, toymodels.names() if toys is None else toys))
        if toys is None and not isinstance(claim, ClusterLossless):
            cases += _on_others(mode)
        if isinstance(own, Weights) and _suits(own.model(), claim):
            windows = _windows(mode, own.vocab, own.length)
            cases += [(mode.case(own, window), own.vocab, own.length) for window in windows]
        for case, vocab, length in cases:
            if (not mode.races or vocab == 2) and case.precision in mode.precisions:
                found.append((vocab ** (length + min(case.window or 2, length)), mode, case))
    return [(mode, case) for _, mode, case in sorted(found, key=lambda item: item[0])]


def _on_toys(mode: Mode, claim: Claim, names: Sequence[str]) -> Iterator[tuple[Case, int, int]]:
    for number, (toy, vocab, length) in enumerate(_suitable(names, claim)):
        wide = 2 + number % 2
        for window in _windows(mode, vocab, length, wide, toy == THREE):
            case = mode.case(toy, window)
            yield case, vocab, length
            if window in (None, wide) and toy in SINGLE:
                yield replace(case, precision="float32"), vocab, length
            if window in (None, wide) and toy in VARIED:
                kinds = toymodels.drafts.kinds() if mode.drafts else ()
                variants = [replace(case, initial=initial) for initial in mode.initials[1:]]
                variants += [replace(case, draft=kind) for kind in kinds if kind != case.draft]
                for variant in variants:
                    yield variant, vocab, length


def _windows(mode: Mode, vocab: int, length: int, wide: int = 2, every: bool = False) -> Iterable[int | None]:
    if len(mode.windows) == 1:
        return mode.windows
    return range(1, length + 2) if vocab == 2 or every else (1, wide, length + 1)


def _on_others(mode: Mode) -> Iterator[tuple[Case, int, int]]:
    guided, ended = (any(part(model) for model in mode.tiny) for part in (_is_guided, _is_ended))
    models: list[tuple[Weights, tuple[int, ...], str]] = [
        (_long(5), (1, 2, 3, 4, 5, 6), "float64"),
        (_long(5), (2, 4), "float32"),
        (_long(10), (2, 4, 6), "float64"),
        (_long(12), (1, 3), "float64"),
        (_steep(2, 5), (2, 3), "float64"),
        (_steep(3, 3), (1, 2), "float64"),
        (Weights(12, 2, scattered(13, 12)), (1, 2), "float64"),
        *((Weights(5, 3, scattered(31, 5), processors=text), (2,), "float64") for text in PROCESSED),
    ]
    if guided:
        pairs = [(3, 3), (2, 5)]
        models += [(_guided(vocab, length), (1, 3), "float64") for vocab, length in pairs]
    if ended:
        models += [(replace(_long(6), eos=end), (2, 4), "float64") for end in (1, 0)]
    for model, windows, precision in models:
        for window in windows if len(mode.windows) > 1 else mode.windows:
            yield replace(mode.case(model, window), precision=precision), model.vocab, model.length
    for vocab, length, window in FAR if len(mode.windows) > 1 else ():
        initial = "zero" if "zero" in mode.initials else mode.initials[0]
        yield mode.case(_far(vocab, length), window, initial), vocab, 2  # as few worlds as two positions have


def _far(vocab: int, length: int) -> Weights:
    """Laws with one choice behind the first tokens, which choose where and by which law; elsewhere token 0 comes.

    So drafts of 0 lead through a long window in few worlds, each slot of which has a choice by turns.
    """
    lead = 2 if vocab > 2 else 3
    sure = tuple(int(token == 0) for token in range(vocab))
    rows: list[tuple[int, ...]] = []
    for position in range(length):
        behind = vocab ** max(0, position - lead)
        for code in range(vocab**position):
            chosen = code // behind
            here = position == lead + chosen % (length - lead)
            rows.append((1,) * vocab if position < lead else _FAR[vocab][chosen] if here else sure)
    return Weights(vocab, length, tuple(rows))


def _is_guided(model: Weights) -> bool:
    return model.guide is not None


def _is_ended(model: Weights) -> bool:
    return model.eos is not None


def _long(length: int) -> Weights:
    return Weights(2, length, scattered(prefixes(2, length), 2))


def _steep(vocab: int, length: int) -> Weights:
    """Laws with tokens far below 1e-6 beside others near 1."""
    rows = tuple(
        _STEEP[(7 * context * context + context) % len(_STEEP)][-vocab:] for context in range(prefixes(vocab, length))
    )
    return Weights(vocab, length, rows)


def _guided(vocab: int, length: int) -> Weights:
    contexts = prefixes(vocab, length)
    return Weights(vocab, length, scattered(contexts, vocab), guide=scattered(contexts + 5, vocab)[5:])


def scattered(contexts: int, size: int) -> tuple[tuple[int, ...], ...]:
    """Weights from 1 to 9, different after each context."""
    numbers = range(contexts)
    return tuple(tuple(1 + ((c * 2654435761 + x * 40503 + 977) >> 7) % 9 for x in range(size)) for c in numbers)


_FAR = {vocab: scattered(vocab**lead + 1, vocab)[1:] for vocab, lead in ((3, 2), (2, 3))}
"""The laws of that choice, by the tokens before."""


def label(case: Case) -> str:
    """A setting in a few words."""
    model = case.model
    parts = [model if isinstance(model, str) else f"{model.vocab} tokens by {model.length}"]
    if isinstance(model, Weights):
        parts += [model.processors] * bool(model.processors) + ["guided"] * (model.guide is not None)
    parts += [f"window {case.window}"] if case.window else []
    parts += [part for part in (case.initial, case.draft) if isinstance(part, str)]
    parts += [case.precision] if case.precision != "float64" else []
    return "/".join(parts)


def nothing_to_cut(processors: str, cases: Iterable[Case]) -> bool:
    """Whether there are processors, and on none of these cases they cut a token that the model's others have left."""

    def cut(model: Weights) -> bool:
        before = replace(model, processors=model.processors.removesuffix(processors).rstrip(","))
        with_them, without = (tabulate(one.model()).table for one in (model, before))
        return bool(((with_them == 0) & (without > 0)).any())

    models = [case.model for case in cases if isinstance(case.model, Weights)]
    return processors != "" and not any(model.processors.endswith(processors) and cut(model) for model in models)


def _suitable(names: Sequence[str], claim: Claim) -> Iterator[tuple[str, int, int]]:
    """Name, vocabulary and length of the toys that a claim can be judged on."""
    for name in names:
        if enumerable(name):
            model = toymodels.toy(name)
            if _suits(model, claim):
                yield name, model.vocab, model.length


def _suits(model: Model, claim: Claim) -> bool:
    return not isinstance(claim, ClusterLossless) or _is_lumped(model, claim.partition)


def _is_lumped(model: Model, partition: tuple[tuple[int, ...], ...]) -> bool:
    """Whether the clusters of a model have a law of their own: one that depends on the clusters before alone."""
    if model.vocab != sum(map(len, partition)) or model.eos is not None:
        return False
    table = tabulate(model).table
    totals = torch.stack([table[:, list(cluster)].sum(1) for cluster in partition], 1)
    number = {token: k for k, cluster in enumerate(partition) for token in cluster}
    codes = [0]
    for position in range(model.length):
        level = totals[prefixes(model.vocab, position) : prefixes(model.vocab, position + 1)]
        for code in set(codes):
            same = level[[k for k, other in enumerate(codes) if other == code]]
            if not torch.allclose(same, same[:1].expand_as(same), rtol=0, atol=1e-12):
                return False
        codes = [code * len(partition) + number[token] for code in codes for token in range(model.vocab)]
    return True
