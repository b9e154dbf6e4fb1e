"""The decoder that runs outside, beside the one that is proved.

What is enumerated is a decoder behind the guard, on draws that are relayed and a model that is watched. Code that tells
these from the real ones (draws that have a `generator`, a class that is compared with) may do something else with the
real ones. So the bare decoder is sampled too: its tokens must be the guarded one's for a seed, and must have the law
that was enumerated.

    difference(bare, guarded, model, seed=...)  -> ""  or what is not the same      no statistics: equal, or not
    follows(bare, model, law, seed=...)         -> Evidence                         of the enumerated law, at every n
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.deadline import Deadline
from specverify.draws import Sampled
from specverify.errors import BudgetError, ContractError
from specverify.evidence.discrete import sequence_counts
from specverify.evidence.finite import TotalVariation
from specverify.evidence.guard import Guarded
from specverify.evidence.result import Evidence
from specverify.model import Model
from specverify.seeds import BLOCK

FIRST, GROWTH = 8, 8
"""Sequences that are drawn to see how long they take, and how many times more the next time."""
ROWS = 4_096
"""Sequences that are compared token by token: a path that differs in one of a thousand shows but for a chance of 2%."""


@torch.no_grad()
def sequences(
    decoder: Any, model: Model, n: int, seed: int, block: int = BLOCK, deadline: Deadline | None = None
) -> Int[Tensor, "n length"]:
    """Sequences of a decoder, guarded or bare, on real draws; any state with `tokens` and `done` will do.

    Raises:
        BudgetError: if the deadline passed before there were so many; it is asked before each step.
        ContractError: if a row is unfinished after `model.length` steps, or a draw was asked with an impossible law.
    """
    found = []
    for number, first in enumerate(range(0, n, block)):
        draws = Sampled(seed, number, model.device)
        state = decoder.init(model, min(block, n - first), draws)
        for _ in range(model.length):
            if bool(state.done.all()):
                break
            if deadline is not None and deadline.over:
                raise BudgetError(f"{first:,} of {n:,} sequences were drawn when the time was over")
            state, _ = decoder.step(state, model, draws)
        draws.check()
        if not bool(state.done.all()):
            raise ContractError(
                f"rows are unfinished after {model.length} steps on real draws; each step commits a token"
            )
        found.append(state.tokens)
    return torch.cat(found)


def affordable(decoder: Any, model: Model, *, seed: int, n: int, seconds: float) -> int:
    """How many sequences, of n, a decoder draws in some seconds: found by drawing ever more of them, but none too many.

    A decoder that is quick gets all of them, whatever it takes to the millisecond.
    """
    rows = min(n, FIRST)
    while rows < n:
        start = time.process_time()
        sequences(decoder, model, rows, seed)
        took = time.process_time() - start
        if GROWTH * took > seconds:
            return max(1, min(n, int(rows * seconds / took)))
        rows = min(n, GROWTH * rows)
    return n


def difference(bare: Any, guarded: Guarded, model: Model, *, seed: int, n: int = ROWS) -> str:
    """What is not the same where a decoder runs bare and where it runs behind the guard, with the same seed.

    Args:
        bare: the decoder as it was made, on the settings as they are.
        guarded: the same, made anew and guarded, as it is enumerated.
        model: the target.

    Other arguments:
        seed: of the draws.
        n: sequences that are compared.

    Returns:
        an empty string where all tokens are equal; else a sentence that names the first row that is not, or what the
        bare decoder raised.
    """
    due = sequences(guarded, model, n, seed)
    try:
        came = sequences(bare, model, n, seed)
    except Exception as error:
        return f"on real draws, without the guard, it raised {type(error).__name__}: {error}"
    if came.shape != due.shape:
        return f"without the guard its tokens have the shape {tuple(came.shape)}, with it {tuple(due.shape)}"
    other = (came != due).any(1)
    if not bool(other.any()):
        return ""
    row = int(other.int().argmax())
    return (
        f"with the same seed it gives other tokens on real draws ({int(other.sum())} of {n} rows, such as "
        f"{came[row].tolist()} instead of {due[row].tolist()}): it tells the draws or the model that it is proved on "
        "from the real ones"
    )


def follows(
    bare: Any,
    model: Model,
    law: Float[Tensor, " sequences"],
    *,
    seed: int,
    delta: float = 0.05,
    alpha: float = 1e-6,
    beta: float = 0.01,
) -> Evidence:
    """Whether the bare decoder's sequences have a law: the total variation test of `finite.py`, valid at every n.

    Against every law at a total variation of delta or more it is missed with probability at most beta; the n that this
    takes grows with the number of sequences, so a toy of some hundred sequences or fewer is the place for it.

    Args:
        bare: the decoder as it was made.
        model: the target.
        law: of the sequences, as `ExactLaw.law`; most often what the enumeration of the guarded decoder gave.

    Other arguments:
        seed: of the draws.
        delta, alpha, beta: total variation that is seen, false-alarm rate, miss rate.
    """
    test = TotalVariation(law)
    n = test.sample_size(delta, alpha=alpha, beta=beta)
    counts = sequence_counts(sequences(bare, model, n, seed), model.vocab)
    return test.check(counts, alpha=alpha, beta=beta, generator=np.random.default_rng(seed))
