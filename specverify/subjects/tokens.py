"""Which tokens a decoder takes, ids or vectors: told by running it, since nothing else tells."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from specverify.declared import Tokens
from specverify.decoders.registry import Settings
from specverify.draws import Sampled
from specverify.model import AnyModel
from specverify.subjects import continuous_suite, modes
from specverify.subjects.factory import Factory

ROWS = 4
"""Sequences of each run."""


def takes(factory: Factory, tokens: Tokens) -> bool:
    """Whether a decoder is for such tokens: by its catalogue, or as it runs to the end, right or wrong, on a model."""
    if factory.tokens is not None:
        return tokens in factory.tokens
    return any(_runs(factory, *one, tokens) for one in (_of_ids if tokens == "ids" else _of_vectors)(factory))


def _of_ids(factory: Factory) -> Iterator[tuple[Settings, AnyModel]]:
    for case in modes.cases(factory):
        model = case.target()
        yield case.settings(model), model


def _of_vectors(factory: Factory) -> Iterator[tuple[Settings, AnyModel]]:
    for one in continuous_suite.settings(factory, None):
        yield one.settings(), one.model()


@torch.no_grad()
def _runs(factory: Factory, settings: Settings, model: AnyModel, tokens: Tokens) -> bool:
    draws = Sampled(0)
    try:
        decoder = factory.build(settings)
        state = decoder.init(model, ROWS, draws)
        for _ in range(model.length):
            if not bool(state.done.all()):
                state, _ = decoder.step(state, model, draws)
        return bool(state.tokens.is_floating_point()) == (tokens == "vectors")
    except Exception:
        return False  # whatever it raises, it does not run
