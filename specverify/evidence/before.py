"""Tokens that came before in their row: anywhere, some places before, and what followed the token before last time."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import pad

LAGS = 8
"""Places before a token at which the same one is looked for."""
REPEATED = (
    "tokens that came before in their row",
    "the token that followed the one before, the last time that one came",
    *(f"the token {lag} places before" if lag > 1 else "the token before, again" for lag in range(1, LAGS + 1)),
)


def earlier(tokens: Int[Tensor, "rows length"]) -> Int[Tensor, "rows length"]:
    """The last place before each where its token came in the row; -1 where it had not."""
    order = tokens.argsort(stable=True, dim=1)
    ordered = tokens.gather(1, order)
    last = torch.where(ordered[:, 1:] == ordered[:, :-1], order[:, :-1], -1)
    return torch.full_like(tokens, -1).scatter(1, order[:, 1:], last)


def others(tokens: Int[Tensor, "rows length"]) -> Int[Tensor, "rows length kinds"]:
    """The token that each of `REPEATED` but the first speaks of at each place; -1 where there is none."""
    length = tokens.shape[1]
    place = pad(earlier(tokens)[:, :-1], (1, 0), value=-1)
    followed = torch.where(place >= 0, tokens.gather(1, (place + 1).clamp(min=0, max=length - 1)), -1)
    return torch.stack([followed, *(pad(tokens, (lag, 0), value=-1)[:, :length] for lag in range(1, LAGS + 1))], 2)
