"""The log-probabilities that a black box may report beside its tokens, held against the target's.

They are log p(x_i | x_1 .. x_(i-1)) in nats, after processors and guidance: Float[n, length], or their sums, Float[n].
Behind an end of sequence nothing is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.errors import ContractError
from specverify.evidence.result import NATS, Evidence
from specverify.model import Model
from specverify.processors import Guided, Processed

CHECK = "reported log-probabilities"
TOLERANCE = 1e-3
"""Nats per token that single precision may be off by, many times over."""


def split(output: Any) -> tuple[Any, Any]:
    """What a sampler returned, as tokens and log-probabilities; None where it reports none."""
    if isinstance(output, tuple) and len(output) == 2:
        return output[0], output[1]
    return output, None


class Logs:
    """What was reported on one case.

    Attributes:
        tokens: how many were reported on.
        worst: the largest difference from what is due, in nats per token.
    """

    def __init__(self, target: Model, draft: Model) -> None:
        self.target = target
        self.tokens = self.wrong = 0
        self.worst = 0.0
        self._example = ""
        self._others: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "logarithms to base 2": lambda tokens, due: due / math.log(2),
            "logarithms to base 10": lambda tokens, due: due / math.log(10),
            "probabilities": lambda tokens, due: due.exp(),
            "negative log-probabilities": lambda tokens, due: -due,
            "the draft model's": lambda tokens, due: _along(draft, tokens),
        }
        if isinstance(target, Processed):
            inner = target.inner
            self._others["those of the model before its processors"] = lambda tokens, due: _along(inner, tokens)
        if isinstance(target, Guided):
            plain, free = target.conditional, target.unconditional
            self._others["those of the conditional law, without guidance"] = lambda tokens, due: _along(plain, tokens)
            self._others["those of the unconditional law"] = lambda tokens, due: _along(free, tokens)

    def add(self, tokens: Int[Tensor, "rows length"], reported: Any) -> None:
        """Compare what came with the tokens of one call.

        Raises:
            ContractError: for anything but numbers, Float[n, length] or Float[n].
        """
        came = _floats(reported, tokens)
        counted = _counted(self.target, tokens)
        due = _along(self.target, tokens)
        off = _difference(came, due, counted)
        places = counted.sum() if came.ndim == 2 else torch.tensor(len(came))
        self.tokens += int(places)
        self.wrong += int((off > TOLERANCE).sum())
        if float(off.max()) > self.worst:
            self.worst = float(off.max())
            at = np.unravel_index(int(off.argmax()), off.shape)
            value = float(came[at])
            wanted = float(due[at]) if came.ndim == 2 else float(due[at[0]].where(counted[at[0]], 0).sum())
            where = f"position {at[1]}" if came.ndim == 2 else "the whole sequence"
            self._example = f"{value:.4g} at {where} of {tokens[at[0]].tolist()}, where {wanted:.4g} is due"
        self._others = {
            name: other
            for name, other in self._others.items()
            if float(_difference(came, other(tokens, due), counted).max()) <= TOLERANCE
        }

    def evidence(self) -> list[Evidence]:
        """One check, if anything was reported."""
        if not self.tokens:
            return []
        like = f"; they look like {' or '.join(self._others)}" if self.wrong and self._others else ""
        said = f"{self.wrong:,} of {self.tokens:,} off by more than {TOLERANCE:g} nats, by up to {self.worst:.3g}"
        return [
            Evidence(
                check=CHECK,
                statistic=self.worst,
                p_value=0.0 if self.wrong else 1.0,
                alpha=0.0,
                beta=0.0,
                delta=TOLERANCE,
                metric=NATS,
                n=self.tokens,
                rejected=self.wrong > 0,
                basis="exact",
                power="finite-sample bound",
                estimate=self.worst,
                detail=said + (f": {self._example}{like}" if self.wrong else ""),
            )
        ]


def _along(model: Model, tokens: Int[Tensor, "rows length"]) -> Float[Tensor, "rows length"]:
    with torch.no_grad():
        laws = model.laws(model.start(len(tokens)), tokens[:, :-1].to(model.device))
    return laws.double().cpu().gather(2, tokens[..., None])[..., 0].log()


def _counted(model: Model, tokens: Tensor) -> Tensor:
    if model.eos is None:
        return torch.ones_like(tokens, dtype=torch.bool)
    ended = torch.cat([torch.zeros_like(tokens[:, :1]), tokens[:, :-1] == model.eos], 1).cumsum(1) > 0
    return ~ended


def _difference(came: Tensor, due: Tensor, counted: Tensor) -> Tensor:
    """Nats per token between what came and what is due; infinite where one is no finite number and the other is."""
    if came.ndim == 1:
        due, tokens = due.where(counted, 0).sum(1), counted.sum(1)
    else:
        came, due, tokens = came.where(counted, 0), due.where(counted, 0), torch.ones_like(due)
    off = ((came - due).abs() / tokens).where(came != due, 0.0)
    return off.nan_to_num(torch.inf, torch.inf)


def _floats(reported: Any, tokens: Tensor) -> Float[Tensor, "*rows"]:
    if not isinstance(reported, Tensor | np.ndarray):
        raise ContractError(
            f"returned a pair whose second part is {type(reported).__name__}; give a tensor or an array"
        )
    came = torch.as_tensor(reported).detach().double().cpu()
    if tuple(came.shape) not in (tuple(tokens.shape), (len(tokens),)):
        raise ContractError(
            f"returned log-probabilities of shape {tuple(came.shape)} with tokens of shape {tuple(tokens.shape)}; give "
            "one for each token, or for each sequence"
        )
    return came
