"""Running somebody's decoder of continuous tokens, and what is asked of it besides the law of its sequences.

That it commits at least one token in every step and row, never changes what it committed, gives finite vectors of the
model's shape and type and bills that add up, draws all its randomness from `draws`, and relies on nothing that the
model does not promise. Each is a ContractError that says which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.draws import BLOCK, Sampled
from specverify.errors import ContractError, InputError
from specverify.laws import CheckedContinuous, ContinuousModel, Law
from specverify.model import Context

TRIAL = 64
"""Sequences of each trial run."""


@dataclass(frozen=True)
class Played:
    """What a decoder made of a model.

    Attributes:
        tokens: Float[n, length, dim].
        slot: each token's place in the step that committed it: 0 for the first token of a step, `window` for a bonus.
        verified, accepted: draft tokens that were judged and kept, by its own account.
        steps: of the slowest sequence of each block, summed.
    """

    tokens: Float[Tensor, "n length dim"]
    slot: Int[Tensor, "n length"]
    verified: int
    accepted: int
    steps: int


class _Blaming:
    """A checked model of known laws: what it finds wrong with a call is the decoder's fault, and no refusal of it."""

    def __init__(self, model: ContinuousModel) -> None:
        self.name, self.dim, self.length = model.name, model.dim, model.length
        self.dtype, self.device = model.dtype, model.device
        self._inner = CheckedContinuous(model)

    def start(self, batch: int) -> Context:
        return self._blame(self._inner.start, batch)

    def laws(self, context: Context, draft: Float[Tensor, "batch w _"]) -> Law:
        return self._blame(self._inner.laws, context, draft)  # type: ignore[no-any-return]

    def advance(self, context: Context, tokens: Float[Tensor, "batch n _"], count: Int[Tensor, " batch"]) -> Context:
        return self._blame(self._inner.advance, context, tokens, count)

    def _blame(self, method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return method(*arguments)
        except InputError as error:
            raise ContractError(str(error)) from error


def trial(make: Callable[[ContinuousModel], Any], model: ContinuousModel) -> None:
    """A few sequences of a decoder, with a model that looks at every call.

    Raises:
        ContractError: it breaks the protocol, or its sequences do not follow from `draws`.
    """
    checked = _Blaming(model)
    decoder = make(checked)
    first, again, other = (play(decoder, checked, TRIAL, seed).tokens for seed in (0, 0, 1))
    if not torch.equal(first, again):
        raise ContractError(
            "the same seed gives other sequences the second time: it keeps state between calls, or has randomness of "
            "its own; what it keeps belongs to the state, and all randomness comes from `draws`"
        )
    if torch.equal(first, other):
        raise ContractError("other seeds give the same sequences: its randomness does not come from `draws`")


@torch.no_grad()
def play(decoder: Any, model: ContinuousModel, n: int, seed: int) -> Played:
    """`n` sequences in blocks, block i with the seed derived from (seed, i).

    Raises:
        ContractError: the decoder breaks the protocol.
    """
    parts = [
        _block(decoder, model, min(BLOCK, n - offset), Sampled(seed, number, model.device))
        for number, offset in enumerate(range(0, n, BLOCK))
    ]
    return Played(
        torch.cat([part.tokens for part in parts]),
        torch.cat([part.slot for part in parts]),
        sum(part.verified for part in parts),
        sum(part.accepted for part in parts),
        sum(part.steps for part in parts),
    )


def _block(decoder: Any, model: ContinuousModel, n: int, draws: Sampled) -> Played:
    state = decoder.init(model, n, draws)
    _check_state(state, model, n)
    place = torch.arange(model.length, device=model.device)
    slot = torch.zeros(n, model.length, dtype=torch.int64, device=model.device)
    verified = accepted = 0
    for step in range(1, model.length + 1):
        before = state
        state, info = decoder.step(before, model, draws)
        _check_state(state, model, n)
        _check_step(before, state, info)
        old = before.length[:, None]
        slot = torch.where((place >= old) & (place < state.length[:, None]), place - old, slot)
        verified, accepted = verified + int(info.verified.sum()), accepted + int(info.accepted.sum())
        if bool(state.done.all()):
            draws.check()
            return Played(state.tokens, slot, verified, accepted, step)
    raise ContractError(f"it left rows unfinished after {model.length} steps; each step must commit a token")


def _check_state(state: Any, model: ContinuousModel, n: int) -> None:
    expected = {
        "tokens": ((n, model.length, model.dim), model.dtype),
        "length": ((n,), torch.int64),
        "done": ((n,), torch.bool),
    }
    for name, (shape, dtype) in expected.items():
        found = getattr(state, name, None)
        if not isinstance(found, Tensor) or (tuple(found.shape), found.dtype) != (shape, dtype):
            what = f"{found.dtype}{list(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise ContractError(f"its state has {what} for `{name}`, where {dtype}{list(shape)} is due")
    if not bool(state.tokens.isfinite().all()):
        raise ContractError(f"it committed {float(state.tokens[~state.tokens.isfinite()][0])}; tokens are finite")
    if not torch.equal(state.done, state.length == model.length):
        raise ContractError(f"`done` must say which rows have reached the length, {model.length}")


def _check_step(before: Any, after: Any, info: Any) -> None:
    emitted = after.length - before.length
    if bool(((emitted < 1) & ~before.done).any()) or bool((emitted[before.done] != 0).any()):
        raise ContractError("a step must commit a token in every row that is not done, and none in the others")
    kept = torch.arange(after.tokens.shape[1], device=emitted.device) < before.length[:, None]
    if not torch.equal(after.tokens[kept], before.tokens[kept]):
        raise ContractError("it changed tokens that an earlier step had committed")
    for name in ("verified", "accepted", "emitted"):
        if tuple(getattr(info, name).shape) != tuple(emitted.shape):
            raise ContractError(f"its info has `{name}` of shape {tuple(getattr(info, name).shape)}, one a row is due")
    if not torch.equal(info.emitted, emitted):
        raise ContractError("`emitted` does not say how many tokens a step committed")
    if bool((info.accepted > info.verified).any()) or bool((info.accepted < 0).any()):
        raise ContractError("it accepted more drafts than it verified")
