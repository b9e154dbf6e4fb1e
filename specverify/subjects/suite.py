"""Which toys a decoder is proved on, and in which settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

import toymodels
from specverify.claims import Claim, ClusterLossless
from specverify.evidence.cases import Case
from specverify.model import Model
from specverify.subjects.modes import Mode
from toymodels.catalogue import enumerable
from toymodels.tables import prefixes, tabulate

VARIED = ("dense-2x8", "sparse-3x5", "ties-3x5")
"""Toys on which every kind of draft model and of initial draft is tried."""


def suite(modes: Sequence[Mode], claim: Claim, toys: Sequence[str] | None = None) -> list[tuple[Mode, Case]]:
    """Every toy (or those named) that suits, with windows of 1, of 2 or 3, and beyond the length; cheap ones first.

    A claim of clusters is judged where the clusters have a law of their own, one that depends on the clusters before
    alone: elsewhere no rule that looks at one token at a time could keep it.
    """
    found: list[tuple[int, Mode, Case]] = []
    for mode in modes:
        for number, (toy, vocab, length) in enumerate(_suitable(toymodels.names() if toys is None else toys, claim)):
            if mode.races and vocab > 2:
                continue
            wide = 2 + number % 2
            for window in (1, wide, length + 1) if len(mode.windows) > 1 else mode.windows:
                case = mode.case(toy, window)
                variants = [case]
                if toy in VARIED and window not in (1, length + 1):
                    variants += [replace(case, initial=initial) for initial in mode.initials[1:]]
                    kinds = toymodels.drafts.kinds() if mode.drafts else ()
                    variants += [replace(case, draft=kind) for kind in kinds if kind != case.draft]
                cost = vocab ** (length + min(window or 2, length))
                found += [(cost, mode, variant) for variant in variants]
    return [(mode, case) for _, mode, case in sorted(found, key=lambda item: item[0])]


def label(case: Case) -> str:
    """A setting in a few words."""
    model = case.model
    parts = [model if isinstance(model, str) else f"{model.vocab} tokens by {model.length}"]
    parts += [f"window {case.window}"] if case.window else []
    parts += [part for part in (case.initial, case.draft) if isinstance(part, str)]
    return "/".join(parts)


def _suitable(names: Sequence[str], claim: Claim) -> Iterator[tuple[str, int, int]]:
    """Name, vocabulary and length of the toys that a claim can be judged on."""
    for name in names:
        if enumerable(name):
            model = toymodels.toy(name)
            if not isinstance(claim, ClusterLossless) or _is_lumped(model, claim.partition):
                yield name, model.vocab, model.length


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
