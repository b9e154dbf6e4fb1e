"""In which ways a decoder can be run, found out by running it: nothing is known of it but what it takes.

A setting counts only if it changes something: a window that moves no figure, or a draft model that is never asked, is
not varied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from specverify.claims import Claim, ClusterLossless, Lossless, Relaxed
from specverify.deadline import Deadline
from specverify.declared import Initial
from specverify.decoders.registry import Settings
from specverify.decoders.run import sample
from specverify.enumerated import DECISIONS
from specverify.errors import BudgetError, ContractError, DependentRowsError, InputError
from specverify.evidence.arrange import Arrangement
from specverify.evidence.budget import Budget
from specverify.evidence.cases import FAR, PROCESSORS, Case, Space, Weights
from specverify.evidence.guard import Guarded
from specverify.evidence.relay import Watched
from specverify.evidence.rounding import Precisions
from specverify.evidence.search import evaluate, guarded
from specverify.subjects import small
from specverify.subjects.factory import Factory

INITIALS: tuple[Initial, ...] = ("repeat-left", "zero", "random", "sample-left")
ROWS = 16
"""Sampled at once where it is tried whether a decoder runs."""
WINDOWS = (1, 2, 3)
"""Narrowest first."""
WIDER = (4, 5, 6, 7, 8)
"""More of them, which are drawn where a window makes a difference."""


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
        arrangement: of the rows; `alone` for a decoder whose rows depend on each other.
        seen: floating types that it was seen to compute in.
        dependence: how its rows were seen to depend on each other; empty if they were not.
        precisions: floating types of the model's laws that it takes.
        refused: settings that it does not take, each with what it said.
        processors: what target laws are made by; see `Factory`.
        late: whether its draft model, windows or initial drafts make a difference on larger models than the least.
    """

    tiny: tuple[Weights, ...]
    drafts: bool
    windows: tuple[int | None, ...]
    initials: tuple[Initial | None, ...]
    races: bool = False
    shown: int = 0
    arrangement: Arrangement = "together"
    seen: frozenset[torch.dtype] = frozenset()
    dependence: str = ""
    precisions: tuple[str, ...] = ("float64",)
    refused: tuple[str, ...] = ()
    processors: str = ""
    late: bool = False

    def ends(self) -> tuple[Weights, ...]:
        """The smallest model that it takes, the largest, and one that is guided."""
        guided = next((model for model in self.tiny if model.guide is not None), self.tiny[0])
        return tuple(dict.fromkeys((self.tiny[0], self.tiny[-1], guided)))

    def case(self, model: Weights | str, window: int | None = None, initial: Initial | None = None) -> Case:
        """A setting of this mode."""
        if isinstance(model, Weights) and self.processors and model.guide is None:
            model = replace(model, processors=self._made_by(model.processors))
        draft: Weights | str | None = None
        if self.drafts:
            draft = "perturbed" if isinstance(model, str) else small.drafting(model)
        places = window or self.windows[len(self.windows) // 2], initial or self.initials[0]
        return Case(model, draft, *places, self.arrangement)

    def _made_by(self, processors: str) -> str:
        return ",".join(filter(None, (processors, self.processors)))

    def space(self, claim: Claim) -> Space:
        """What the search draws from."""
        vocab = [model.vocab for model in self.tiny]
        spans = tuple(dict.fromkeys(model.span for model in self.tiny))
        return Space(
            vocab=(min(vocab), max(vocab)),
            length=(1, 4 if max(vocab) <= 3 else 3),
            far=FAR,
            windows=(*self.windows, *WIDER) if len(self.windows) > 1 else self.windows,
            initials=self.initials,
            drafts=(self.drafts,),
            eos=tuple(sorted({model.eos is not None for model in self.tiny})),
            spans=(*spans, 1) if 2 in spans else spans,
            processors=tuple(dict.fromkeys(map(self._made_by, PROCESSORS))),
            arrangements=("alone",) if self.arrangement == "alone" else ("together", "ragged"),
            precisions=self.precisions,
            guided=tuple(sorted({model.guide is not None for model in self.tiny})),
            partition=claim.partition if isinstance(claim, ClusterLossless) else None,
        )


Figures = tuple[tuple[float, ...], ...] | None
"""What a decoder does on some models; None if it does not take the setting."""
SHARE = 0.5
"""The part of the time after which no other window or initial draft is tried."""


def own_claim(factory: Factory) -> Claim:
    """What a decoder says of itself; lossless if it says nothing."""
    try:
        claim = getattr(factory.build(Settings(2, "repeat-left", small.mixed(2, 3).model())), "claim", None)
    except Exception:
        claim = None
    return claim if isinstance(claim, Lossless | ClusterLossless | Relaxed) else Lossless()


def find_modes(factory: Factory, claim: Claim, budget: Budget, seed: int) -> list[Mode]:
    """The ways in which the decoder can be run.

    Raises:
        ContractError: it breaks the protocol, cannot be enumerated, or takes no model at all.
    """
    modes, refusals = list[Mode](), dict[str, str]()
    if budget.deadline is not None:
        budget = replace(budget, deadline=Deadline(SHARE * budget.deadline.left))
    for drafts in _ways(factory):
        try:
            mode = _mode(factory, claim, drafts, budget, seed)
        except InputError as error:
            refusals["with a draft model" if drafts else "without a draft model"] = str(error)
        else:
            modes += [mode] if mode is not None else []
    if not modes:
        raise ContractError(f"it takes none of the models that it was tried on: {next(iter(refusals.values()))}")
    said = (f"{way}: it says {error}" for way, error in refusals.items())
    return [replace(modes[0], refused=(*modes[0].refused, *said)), *modes[1:]]


def cases(factory: Factory) -> Iterator[Case]:
    """A small setting of every kind, to see whether the decoder runs in any."""
    window = 2 if "window" in factory.takes else None
    for drafts in _ways(factory):
        yield from (
            Mode((), drafts, (window,), (None,), processors=factory.processors).case(model)
            for model in small.tiny(Lossless())
        )


def _ways(factory: Factory) -> list[bool]:
    """With a draft model or without: which of the two there are."""
    return [False] * ("draft_model" not in factory.needs) + [True] * ("draft_model" in factory.takes)


def _mode(factory: Factory, claim: Claim, drafts: bool, budget: Budget, seed: int) -> Mode | None:
    """How the decoder is run with, or without, a draft model; None if the draft model makes no difference.

    Raises:
        InputError: it takes no model, in none of the windows.
    """
    refusals: list[InputError] = []
    for window in (2, *WINDOWS[::2], WIDER[0]) if "window" in factory.takes else (None,):
        try:
            trial = Mode((), drafts, (window,), (None,), processors=factory.processors)
            mode = _run_on_tiny(factory, claim, trial, seed, budget.deadline)
        except InputError as error:
            refusals.append(error)
        else:
            if mode is None:
                return None
            try:
                return _varied(factory, mode, budget)
            except DependentRowsError as error:
                return _varied(factory, replace(mode, arrangement="alone", dependence=str(error)), budget)
    raise refusals[0]


def _run_on_tiny(factory: Factory, claim: Claim, trial: Mode, seed: int, deadline: Deadline | None) -> Mode | None:
    taken: list[Weights] = []
    kinds: set[str] = set()
    seen: set[torch.dtype] = set()
    asked: list[bool] = []
    shown = 0
    refusal: InputError | None = None
    matters = not trial.drafts or "draft_model" in factory.needs
    for model in (*small.tiny(claim), *small.larger(claim)):
        larger = model in small.larger(claim)
        # Those are for who takes no other, or was not seen to ask the draft model that it was given.
        if taken and ((larger and (matters or any(asked))) or (not larger and model.vocab > 3)):
            continue
        if taken and deadline is not None and deadline.over:
            break
        try:
            guard, used, dtypes = _run_once(factory, trial.case(model), seed)
        except InputError as error:
            refusal = refusal or error  # of the smallest, which others may hide
            continue
        asked.append(used)
        if not larger or not any(model.length < 4 for model in taken):
            taken.append(model)
        kinds |= guard.kinds
        seen |= dtypes
        shown = max(shown, guard.widest)
    if not taken:
        raise refusal or InputError("there is no model to try it on")
    if not (matters or any(asked)):
        return None
    if odd := kinds & {"uniform", "normal"}:
        raise ContractError(
            f"it asks for {' and '.join(sorted(odd))} draws, whose outcomes cannot be enumerated; {DECISIONS}; or call "
            "it in a function (target, draft, n, seed) -> tokens, and judge that with --level sampler"
        )
    races = "race" in kinds
    tiny = tuple(model for model in taken if not races or model.vocab == 2)
    if not tiny:
        raise ContractError("it draws by races, which can be enumerated for two tokens only, and takes no such model")
    return replace(trial, tiny=tiny, races=races, shown=shown, seen=frozenset(seen), late=not (matters or asked[0]))


def _varied(factory: Factory, mode: Mode, budget: Budget) -> Mode:
    """The mode with the windows and initial drafts that change what the decoder does, and those that it refuses."""
    refused: list[str] = []
    near, far = [mode.tiny[0]], list[Weights]()
    if mode.tiny[0] == small.mixed(2, 3):
        # What adapts its window to what was accepted, or to what there is to come, shows it in longer sequences only.
        near, far = [small.mixed(2, 6)], [small.LONG]
        near += [small.mixed(3, 4)] * any(model.vocab == 3 for model in mode.tiny)

    def figures(window: int | None, initial: Initial | None = None, models: Sequence[Weights] = near) -> Figures:
        found: list[tuple[float, ...]] = []
        for case in (mode.case(model, window, initial) for model in models):
            try:
                came = evaluate(factory.build, case, Relaxed(1.0), budget)
            except (InputError, BudgetError) as error:
                if found and isinstance(error, BudgetError):
                    break  # out of time, so that the first model has to do
                setting = f"window {window}" if initial is None else f"initial drafts {initial}"
                refused.append(f"{setting}: it says {error}")
                return None
            except ContractError as error:
                raise _placed(error, case) from None
            exact = came.exact
            sizes = exact.passes, exact.verified, exact.accepted, came.tv
            found.append((*(round(size, 9) for size in sizes), exact.states, exact.worlds))
        return tuple(found)

    if "window" in factory.takes:
        for tried in (near, far):
            took = {window: found for window in WINDOWS if (found := figures(window, models=tried)) is not None}
            if len(set(took.values())) > 1:
                early = tried is near and len({found[0] for found in took.values()}) > 1
                mode = replace(mode, windows=tuple(took), late=mode.late or not early)
                break
    if "initial" in factory.takes:
        first: dict[Any, Initial] = {}
        for initial in INITIALS:
            # In the narrowest window, where slots that no pass has looked at are commonest.
            if (found := figures(mode.windows[0], initial)) is not None:
                first.setdefault(found, initial)
        if len(first) > 1:
            late = mode.late or len({found[0] for found in first}) == 1
            mode = replace(mode, initials=tuple(first.values()), late=late)
    single = replace(mode.case(mode.tiny[0]), precision="float32")
    try:
        evaluate(factory.build, single, Relaxed(1.0), budget)
    except DependentRowsError:
        raise
    except (InputError, BudgetError, ContractError) as error:
        refused.append(f"models in float32: it says {error}")
    else:
        mode = replace(mode, precisions=("float64", "float32"))
    return replace(mode, refused=tuple(refused))


def _run_once(factory: Factory, case: Case, seed: int) -> tuple[Guarded, bool, set[torch.dtype]]:
    """Sample twice with one seed: the same tokens must come, from `draws` alone.

    Returns:
        the decoder, whether the draft model ran, and the floating types that were computed in.
    """
    model = case.target()
    settings = case.settings(model)
    watched = None if settings.draft_model is None else Watched(settings.draft_model)
    guard = guarded(factory.build, replace(settings, draft_model=watched))
    before = _generators()
    with Precisions() as precisions:
        try:
            tokens = [sample(guard, model, ROWS, seed).tokens, sample(guard, model, ROWS, seed).tokens]
        except ContractError as error:
            _named(factory, case)
            raise _placed(error, case, f", {ROWS} rows at once") from None
    for name, was, now in zip(("torch", "numpy"), before, _generators(), strict=True):
        if not np.array_equal(was, now):
            raise ContractError(f"it drew from {name}'s global generator; all randomness comes from `draws`")
    if not torch.equal(*tokens):
        raise ContractError(
            "the same seed gave other tokens the second time: it keeps state between calls, or has randomness of its "
            "own; what it keeps belongs to the state, and all randomness comes from `draws`"
        )
    return guard, watched is not None and watched.calls > 0, precisions.seen


def _named(factory: Factory, case: Case) -> None:
    """Raise what enumeration says of a decoder that broke the contract as it ran: it names the draw at fault."""
    try:
        evaluate(factory.build, case, Relaxed(1.0))
    except ContractError as error:
        raise _placed(error, case) from None


def _placed(error: ContractError, case: Case, how: str = "") -> ContractError:
    """The same error, with where it was seen."""
    window = "" if case.window is None else f", window {case.window}"
    assert isinstance(case.model, Weights)
    return type(error)(f"of {case.model.vocab} tokens by {case.model.length}{window}{how}: {error}")


def _generators() -> tuple[Any, Any]:
    """The states of the generators that everybody shares."""
    _, keys, *_ = np.random.get_state(legacy=True)  # noqa: NPY002
    return torch.random.get_rng_state().numpy(), keys
