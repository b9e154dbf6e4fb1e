"""What an engine has reduced itself: five or six numbers for each token, checked against each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from specverify.errors import InputError
from specverify.evidence.tokens import TILTS, TokenStatistics
from specverify.subjects.trace_source import Source

REDUCED = ("logprob", "entropy", "variance", "pit_low", "pit_high")
BELOW = "below"
ROUNDING, COARSE = 1e-3, 3e-2
"""What may be off in a sum of probabilities, and in one of those logged with 16 bits."""
Block = tuple[slice, slice]
"""Rows and positions."""


def coarse(source: Source, name: str) -> bool:
    """Whether it holds floating-point numbers of 16 bits or less."""
    return source.digits(name) > 1e-4


def first(bad: Bool[Tensor, "*tokens"], block: Block | None = None) -> str:
    """The place of the first that is, of all tokens or of a block of them, which may be flat."""
    rows, positions = block or (slice(0, len(bad)), slice(0, bad.shape[-1]))
    row, position = divmod(int(bad.reshape(-1).nonzero()[0]), positions.stop - positions.start)
    return f"first in row {rows.start + row} at position {positions.start + position}"


def given(source: Source, counted: Tensor, generator: np.random.Generator) -> TokenStatistics:
    """Statistics that the engine has reduced itself."""
    values = {}
    for name in REDUCED:
        array = source.read(name, slice(None), slice(None))
        if array.dtype.kind != "f":
            raise InputError(f"{name} has dtype {array.dtype}; it is floating point")
        values[name] = torch.where(counted, torch.from_numpy(array.astype(np.float64)), 0.0)
        if bool((bad := values[name].isnan()).any()):
            raise InputError(f"{name} holds NaN, {first(bad)}")
    low, high, p = values["pit_low"], values["pit_high"], values["logprob"].exp()
    if bool((bad := counted & ((low < -ROUNDING) | (high > 1 + ROUNDING) | (p > 1 + ROUNDING))).any()):
        raise InputError(f"pit_low and pit_high lie between 0 and 1, and logprob is at most 0; not so {first(bad)}")
    off = torch.where(counted, (high - low - p).abs(), 0.0)
    if bool((bad := off > ROUNDING).any()):
        raise InputError(
            f"pit_high - pit_low differs from exp(logprob) by up to {float(off.max()):.3g}, {first(bad)}; both are p(x)"
            + ("; 16 bits are too few for them: log float32" if any(coarse(source, name) for name in REDUCED) else "")
        )
    if bool((bad := counted & ((values["entropy"] < 0) | (values["variance"] < 0))).any()):
        raise InputError(f"entropy and variance are at least 0; not so {first(bad)}")
    _check_moments(values, counted, COARSE if any(coarse(source, name) for name in REDUCED) else ROUNDING)
    uniform = torch.from_numpy(generator.random(tuple(counted.shape)))
    # rounding leaves an entropy of 0 to laws that are all but certain, never to others (`_check_moments`)
    choice = counted & (values["entropy"] > 0)
    impossible = counted & (p == 0)
    return TokenStatistics(
        pit=torch.where(choice, (low + uniform * (high - low)).clamp(0, 1), uniform),
        surprisal=torch.where(impossible, 0.0, -values["logprob"]),
        entropy=values["entropy"],
        variance=values["variance"],
        tilted=torch.zeros(*counted.shape, len(TILTS), dtype=torch.float64),
        open=choice,
        impossible=impossible,
    )


def below(source: Source, counted: Tensor) -> Float[Tensor, "sequences length"]:
    """The mass of smaller ids, where the engine logs it beside what it has reduced."""
    array = source.read(BELOW, slice(None), slice(None))
    if array.shape != tuple(counted.shape) or array.dtype.kind != "f":
        raise InputError(
            f"{BELOW} has shape {array.shape} and dtype {array.dtype}; give one floating-point number for each of the "
            f"tokens {tuple(counted.shape)}"
        )
    mass = torch.where(counted, torch.from_numpy(array.astype(np.float64)), 0.0)
    if bool((bad := ~((mass >= -ROUNDING) & (mass <= 1 + ROUNDING))).any()):
        raise InputError(f"{BELOW} is the mass of the ids below the emitted one, from 0 to 1; not so {first(bad)}")
    return mass


def _check_moments(values: Mapping[str, Tensor], counted: Tensor, slack: float) -> None:
    """Refuse an entropy or a variance that no law has which gives the emitted token its probability and its place.

    Of the mass ahead of the token each part is at most all of it, and of the mass behind it at most p(x): so much
    entropy there is at least. The surprisal is off its mean by d with probability p(x), so its variance is at least
    p d^2 / (1 - p).
    """
    p, low = values["logprob"].exp(), values["pit_low"].clamp(0, 1)
    behind = (1 - low - p).clamp(0, 1)
    own = torch.where(p > 0, -values["logprob"], 0.0)
    least = torch.special.entr(low) + p * own + behind * own
    off = torch.where(p > 0, own - values["entropy"], 0.0)
    spread = p * off**2 / (1 - p).clamp(min=slack)
    allowed = slack * (2 + own)
    for name, bound in (("entropy", least), ("variance", spread)):
        short = counted & (values[name] < bound - allowed * (1 if name == "entropy" else 2 + own))
        if bool(short.any()):
            row, position = (int(i) for i in short.nonzero()[0])
            raise InputError(
                f"{name} contradicts the rest of the log at {int(short.sum()):,} tokens: it is "
                f"{float(values[name][row, position]):.4g} in row {row} at position {position}, where logprob "
                f"{float(values['logprob'][row, position]):.4g} and pit_low {float(low[row, position]):.4g} leave at "
                f"least {float(bound[row, position]):.4g}; log all of them from the law that the token was drawn from"
            )
