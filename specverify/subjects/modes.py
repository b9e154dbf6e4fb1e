"""In which ways a decoder can be run, found out by running it: nothing is known of it but what it takes.

A setting counts only if it changes something: a window that moves no figure, or a draft model that is never asked, is
not varied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from specverify.claims import Claim, ClusterLossless, Lossless, Relaxed
from specverify.decoders.jacobi import Initial
from specverify.decoders.registry import Settings
from specverify.decoders.run import sample
from specverify.errors import ContractError, InputError
from specverify.evidence.cases import Case, Space, Weights, lumped
from specverify.evidence.enumerate import Budget
from specverify.evidence.guard import Guarded
from specverify.evidence.relay import Watched
from specverify.evidence.search import evaluate, guarded
from specverify.subjects.factory import Factory
from toymodels.tables import prefixes

INITIALS: tuple[Initial, ...] = ("repeat-left", "zero", "random", "sample-left")
WINDOWS = (1, 2, 3)
"""Narrowest first."""


@dataclass(frozen=True)
class Mode:
    """One way in which a decoder can be run, and what it takes then.

    Attributes:
        tiny: models on which it runs, smallest first.
        drafts: whether it drafts with a second model.
        windows: that change what it does; (None,) if it has its own.
        initials: likewise.
        races: whether it draws by races, which can be enumerated for two tokens only.
        shown: most drafts that a pass was seen to verify.
    """

    tiny: tuple[Weights, ...]
    drafts: bool
    windows: tuple[int | None, ...]
    initials: tuple[Initial | None, ...]
    races: bool = False
    shown: int = 0

    def case(self, model: Weights | str, window: int | None = None, initial: Initial | None = None) -> Case:
        """A setting of this mode."""
        draft: Weights | str | None = None
        if self.drafts:
            draft = "perturbed" if isinstance(model, str) else replace(model, weights=model.weights[::-1], span=None)
        return Case(model, draft, window or self.windows[len(self.windows) // 2], initial or self.initials[0])

    def space(self, claim: Claim) -> Space:
        """What the search draws from."""
        vocab = [model.vocab for model in self.tiny]
        spans = tuple(dict.fromkeys(model.span for model in self.tiny))
        return Space(
            vocab=(min(vocab), max(vocab)),
            length=(1, 4 if max(vocab) <= 3 else 3),
            windows=self.windows,
            initials=self.initials,
            drafts=(self.drafts,),
            eos=tuple(sorted({model.eos is not None for model in self.tiny})),
            spans=(*spans, 1) if 2 in spans else spans,
            partition=claim.partition if isinstance(claim, ClusterLossless) else None,
        )


def own_claim(factory: Factory) -> Claim:
    """What a decoder says of itself; lossless if it says nothing."""
    try:
        claim = getattr(factory.build(Settings(2, draft_model=_mixed(2, 3, None, None).model())), "claim", None)
    except Exception:
        claim = None
    return claim if isinstance(claim, Lossless | ClusterLossless | Relaxed) else Lossless()


def find_modes(factory: Factory, claim: Claim, budget: Budget, seed: int) -> list[Mode]:
    """The ways in which the decoder can be run.

    Raises:
        ContractError: it breaks the protocol, cannot be enumerated, or takes no model at all.
    """
    modes, refusals = [], []
    for drafts in (False, True):
        if ("draft_model" not in factory.takes) if drafts else ("draft_model" in factory.needs):
            continue
        try:
            mode = _mode(factory, claim, drafts, budget, seed)
        except InputError as error:
            refusals.append(str(error))
        else:
            modes += [mode] if mode is not None else []
    if not modes:
        raise ContractError(f"it takes none of the models that it was tried on: {refusals[0]}")
    return modes


def _mode(factory: Factory, claim: Claim, drafts: bool, budget: Budget, seed: int) -> Mode | None:
    """How the decoder is run with, or without, a draft model; None if the draft model makes no difference."""
    trial = Mode((), drafts, (2,) if "window" in factory.takes else (None,), (None,))
    taken: list[Weights] = []
    kinds: set[str] = set()
    shown, refusal = 0, InputError("there is no model to try it on")
    for model in _tiny_models(claim):
        if taken and model.vocab > 3:
            break
        try:
            guard, used = _run_once(factory, trial.case(model), seed)
        except InputError as error:
            refusal = error
            continue
        if drafts and not used and "draft_model" not in factory.needs:
            return None
        taken.append(model)
        kinds |= guard.kinds
        shown = max(shown, guard.widest)
    if not taken:
        raise refusal
    if odd := kinds & {"uniform", "normal"}:
        raise ContractError(
            f"it asks for {' and '.join(sorted(odd))} draws, whose outcomes cannot be enumerated; ask draws for the "
            "decision itself (bernoulli, categorical, accept_run), or have it judged as a sampler"
        )
    races = "race" in kinds
    tiny = tuple(model for model in taken if not races or model.vocab == 2)
    if not tiny:
        raise ContractError("it draws by races, which can be enumerated for two tokens only, and takes no such model")
    mode = replace(trial, tiny=tiny, races=races, shown=shown)

    def figures(window: int | None = None, initial: Initial | None = None) -> tuple[Any, ...]:
        exact = evaluate(factory.build, mode.case(tiny[0], window, initial), Relaxed(1.0), budget).exact
        return (*(round(x, 9) for x in (exact.passes, exact.verified, exact.accepted)), exact.states, exact.worlds)

    if "window" in factory.takes and len({figures(window) for window in WINDOWS}) > 1:
        mode = replace(mode, windows=WINDOWS)
    if "initial" in factory.takes:
        first: dict[Any, Initial] = {}
        for initial in INITIALS:
            # In the narrowest window, where slots that no pass has looked at are commonest.
            first.setdefault(figures(WINDOWS[0], initial), initial)
        if len(first) > 1:
            mode = replace(mode, initials=tuple(first.values()))
    return mode


def _run_once(factory: Factory, case: Case, seed: int) -> tuple[Guarded, bool]:
    """Sample twice with one seed: the same tokens must come, from `draws` alone. Says whether the draft model ran."""
    model = case.target()
    settings = case.settings(model)
    watched = None if settings.draft_model is None else Watched(settings.draft_model)
    guard = guarded(factory.build, replace(settings, draft_model=watched))
    before = _generators()
    tokens = [sample(guard, model, 16, seed).tokens for _ in range(2)]
    for name, was, now in zip(("torch", "numpy"), before, _generators(), strict=True):
        if not np.array_equal(was, now):
            raise ContractError(f"it drew from {name}'s global generator; all randomness comes from `draws`")
    if not torch.equal(*tokens):
        raise ContractError(
            "the same seed gave other tokens the second time: it keeps state between calls, or has randomness of its "
            "own; what it keeps belongs to the state, and all randomness comes from `draws`"
        )
    return guard, watched is not None and watched.calls > 0


def _generators() -> tuple[Any, Any]:
    """The states of the generators that everybody shares."""
    _, keys, *_ = np.random.get_state(legacy=True)  # noqa: NPY002
    return torch.random.get_rng_state().numpy(), keys


def _tiny_models(claim: Claim) -> Iterator[Weights]:
    """Small models of every kind: tables and recursions, with and without an end, of two tokens and more."""
    if isinstance(claim, ClusterLossless):
        yield _lumped(claim.partition, 2)
        yield _lumped(claim.partition, 3)
        return
    for vocab, length in ((2, 3), (3, 2), (4, 2), (5, 2), (8, 2)):
        for span in (None, 2):
            for eos in (None, vocab - 1):
                yield _mixed(vocab, length, eos, span)


def _mixed(vocab: int, length: int, eos: int | None, span: int | None) -> Weights:
    return Weights(vocab, length, _rows(prefixes(vocab, length), vocab), eos, span)


def _lumped(partition: tuple[tuple[int, ...], ...], length: int) -> Weights:
    vocab = sum(map(len, partition))
    totals = _rows(prefixes(len(partition), length), len(partition))
    shares = [_rows(prefixes(vocab, length), len(cluster)) for cluster in partition]
    return Weights(vocab, length, lumped(partition, length, totals, shares))


def _rows(contexts: int, size: int) -> tuple[tuple[int, ...], ...]:
    """Different weights from 1 to 4 after each context, without a pattern that a decoder could share."""
    return tuple(tuple(1 + (7 * c * c + 3 * x * c + 5 * x) % 4 for x in range(size)) for c in range(contexts))
