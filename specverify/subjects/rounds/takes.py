"""What a kernel does not take, of what is tried beside: longer windows, wide vocabularies, other dtypes."""

from __future__ import annotations

from collections.abc import Sequence

from specverify.seeds import derived_seed
from specverify.subjects.rounds import contract
from specverify.subjects.rounds.calls import recast
from specverify.subjects.rounds.contexts import Contexts
from specverify.subjects.rounds.kernel import Fault, Kernel
from specverify.subjects.rounds.sampling import Trial
from specverify.subjects.rounds.trials import slots_of
from specverify.verdict import Kind

ROWS = 64
"""Of the call that tells."""
SHOWN = 4
"""Trials that one reason names."""


def refused_windows(kernel: Kernel, windows: Sequence[int], seed: int) -> dict[int, str]:
    """The windows that it raises for, and what it raised: it may be made for so many drafts.

    Raises:
        Fault: it breaks its contract there.
    """
    raised = {window: _raised(kernel, slots_of(window), window, seed) for window in windows}
    return {window: f"takes no {window} drafts: {why}" for window, why in raised.items() if why}


def refused_trials(kernel: Kernel, trials: Sequence[Trial], gamma: int, seed: int) -> dict[str, str]:
    """The names of the trials beside that it raises for, and what it raised.

    Raises:
        Fault: it breaks its contract there.
    """
    names: dict[str, list[str]] = {}
    for trial in trials:
        if trial.beside:
            given = kernel if trial.dtype is None else recast(kernel, trial.dtype)
            if why := _raised(given, trial.contexts, gamma, seed, certain=trial.certain):
                names.setdefault(why.partition(" (given tensors")[0], []).append(trial.name)
    return {name: _refusal(each, why) for why, each in names.items() for name in each}


def _refusal(names: Sequence[str], why: str) -> str:
    more = f"; and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"takes no {'; '.join(names[:SHOWN])}{more}: {why}"


def too_slow(trials: Sequence[Trial], seconds: float) -> list[str]:
    """The names of the trials beside of which any would take more than so many seconds of the processor."""
    return [trial.name for trial in trials if trial.beside and trial.cost * trial.wanted > seconds]


def _raised(kernel: Kernel, contexts: Contexts, gamma: int, seed: int, *, certain: bool = False) -> str:
    given = contract.sample_round(kernel, contexts, gamma, derived_seed(seed, 8), ROWS, certain=certain)
    try:
        kernel.verify(given, contract.generator(seed))
    except Fault as fault:
        if fault.verdict.kind is not Kind.ERROR:
            raise
        return fault.verdict.reason
    return ""
