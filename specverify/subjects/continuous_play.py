"""Running somebody's decoder of continuous tokens, and what is asked of it besides the law of its sequences.

That it commits at least one token in every step and row, never changes what it committed, gives finite vectors of the
model's shape and type and bills that add up, draws all its randomness from `draws`, and relies on nothing that the
model does not promise. Each is a ContractError that says which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.batteries.vectors import BATCH
from specverify.deadline import Deadline
from specverify.decoders.protocol import Branch
from specverify.draws import Sampled
from specverify.errors import ContractError, InputError
from specverify.evidence.cached import Cached
from specverify.laws import CheckedContinuous, ContinuousModel, Law
from specverify.model import Context
from specverify.seeds import BLOCK
from specverify.subjects.continuous_watch import Watched, check_shapes, drafted, misreport

TRIAL = 64
"""Sequences of each trial run."""
SMALL = {1: 7, 2: 4, 3: 2, 4: 2, 5: 1, 8: 1, 9: 4, 16: 1, 33: 1}
"""How many batches of each small size are played: a server's sizes, odd ones, and one with seven inner rows."""
PLACES = 9
"""The size with seven inner rows."""
WIDE, MORE = 4, 4
"""From so many dimensions on so many times as many: a batch costs the same there, and has more to say."""
SEEN = 512
"""Rows of the largest batches in which it is looked at whether a cache would hold what is committed."""
TWICE = 2
"""Of the small batches of each size, it is looked at in so many."""
_APART = 1 << 20
"""Numbers of their blocks begin here, apart from those of the large ones."""


@dataclass(frozen=True)
class Played:
    """What a decoder made of a model.

    Attributes:
        tokens: Float[n, length, dim].
        slot: each token's place in the step that committed it: 0 for the first token of a step, `window` for a bonus.
        verified, accepted: draft tokens that were judged and kept, by its own account.
        steps: of the slowest sequence of each block, summed.
        fault: the first figure of its reports that is not what happened; empty if all are.
        recovered: how many tokens, of steps of one pass, are said to replace a rejected draft, and how many of these
            are a draft that the pass was shown.
        first: Float[n, dim], the first draft that the first pass was shown, and whether it was committed, Bool[n];
            None where that pass was not the only one of its step, or was shown none.
        batches: rows of each batch, in the order of the tokens.
    """

    tokens: Float[Tensor, "n length dim"]
    slot: Int[Tensor, "n length"]
    verified: int
    accepted: int
    steps: int
    fault: str = ""
    recovered: tuple[int, int] = (0, 0)
    first: tuple[Tensor, Tensor] | None = None
    batches: tuple[int, ...] = ()

    @property
    def false_figure(self) -> str:
        """A figure of its reports that is not what happened; empty if there is none."""
        among, shown = self.recovered
        # One that draws a token first, shows it next and commits it last does so with every one of them.
        if not self.fault and 0 < shown < among:
            return (
                f"{shown:,} of {among:,} tokens that `branch` names recovered are drafts that the target was shown: "
                "the residual's density gives none, so that rejected drafts were committed, or the name is false"
            )
        return self.fault


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


def trial(make: Callable[[], Any], model: ContinuousModel) -> None:
    """A few sequences of a decoder, with a model that looks at every call.

    Raises:
        ContractError: it breaks the protocol, or its sequences do not follow from `draws`.
    """
    checked = _Blaming(model)
    decoder = make()
    # State may be kept for one size of the batch alone; single images are what people ask for.
    for size in (TRIAL, 1):
        first, again, other = (play(decoder, checked, size, seed).tokens for seed in (0, 0, 1))
        if not torch.equal(first, again):
            raise ContractError(
                "the same seed gives other sequences the second time: it keeps state between calls, or has randomness "
                "of its own; what it keeps belongs to the state, and all randomness comes from `draws`"
            )
        if torch.equal(first, other):
            raise ContractError("other seeds give the same sequences: its randomness does not come from `draws`")


@torch.no_grad()
def play(
    decoder: Any, model: ContinuousModel, n: int, seed: int, early: int = 0, deadline: Deadline | None = None
) -> Played:
    """`n` sequences in blocks, block i with the seed derived from (seed, i).

    Args:
        decoder, model, n, seed: what to run.
        early: so many sequences at least are drawn in batches of `BATCH` rows, before the batches double in size.
        deadline: when it is over, no further block is begun.

    Raises:
        ContractError: the decoder breaks the protocol.
    """
    parts: list[Played] = []
    for number, size in enumerate(_sizes(n, early)):
        if parts and deadline is not None and deadline.over:
            break
        seen = SEEN if all(part.batches != (size,) for part in parts) else 0  # once of each size
        parts.append(_block(decoder, model, size, Sampled(seed, number, model.device), seen))
    return _joined(parts)


@torch.no_grad()
def play_small(
    decoder: Any, model: ContinuousModel, seed: int, deadline: Deadline, often: int = 1
) -> tuple[dict[int, Tensor], str]:
    """A few small batches of each size of `SMALL`; of that with seven inner rows, so many times as many.

    Returns:
        their tokens by size, Float[batches, size, length, dim], and the first figure of a report that is false.

    Raises:
        ContractError: the decoder breaks the protocol.
    """
    found: dict[int, Tensor] = {}
    fault = ""
    for size, batches in SMALL.items():
        parts: list[Played] = []
        for number in range(batches * (often if size == PLACES else 1) * (MORE if model.dim >= WIDE else 1)):
            if not deadline.over:
                draws = Sampled(seed, _APART + size * 1024 + number, model.device)
                parts.append(_block(decoder, model, size, draws, SEEN if number < TWICE else 0))
        if parts:
            found[size] = torch.stack([part.tokens for part in parts])
            fault = fault or next((part.fault for part in parts if part.fault), "")
    return found, fault


def _sizes(n: int, early: int) -> Iterator[int]:
    """Batches of `BATCH` rows for the first `early` sequences, then twice as large each time, up to `BLOCK`."""
    size, drawn = BATCH if early else BLOCK, 0
    while drawn < n:
        if drawn >= early:
            size = min(2 * size, BLOCK)
        yield min(size, n - drawn)
        drawn += size


def _joined(parts: Sequence[Played]) -> Played:
    first = None
    if all(part.first for part in parts):
        first = tuple(torch.cat([part.first[k] for part in parts if part.first]) for k in (0, 1))
    return Played(
        torch.cat([part.tokens for part in parts]),
        torch.cat([part.slot for part in parts]),
        sum(part.verified for part in parts),
        sum(part.accepted for part in parts),
        sum(part.steps for part in parts),
        next((part.fault for part in parts if part.fault), ""),
        (sum(part.recovered[0] for part in parts), sum(part.recovered[1] for part in parts)),
        first,  # type: ignore[arg-type]  # of two
        tuple(size for part in parts for size in part.batches),
    )


def _block(decoder: Any, model: ContinuousModel, n: int, draws: Sampled, seen: int) -> Played:
    """One batch; of up to `seen` rows, its cache is looked at."""
    noted = Cached(model, seen)
    watched = Watched(noted)
    state = decoder.init(watched, n, draws)
    _check_state(state, model, n)
    place = torch.arange(model.length, device=model.device)
    slot = torch.zeros(n, model.length, dtype=torch.int64, device=model.device)
    verified = accepted = among = again = 0
    fault, first = "", None
    for step in range(1, model.length + 1):
        before = state
        watched.forget()
        state, info = decoder.step(before, watched, draws)
        if noted.breach:
            raise ContractError(noted.breach)
        _check_state(state, model, n)
        _check_step(before, state, info)
        old = before.length[:, None]
        slot = torch.where((place >= old) & (place < state.length[:, None]), place - old, slot)
        verified, accepted = verified + int(info.verified.sum()), accepted + int(info.accepted.sum())
        fault = fault or misreport(before, state, info, watched.shown)
        replaced, shown = info.branch == Branch.RECOVERED, drafted(before, state, info, watched.shown)
        alone = len(watched.shown) == 1 and len(watched.shown[0]) == n  # a second pass may show what the first drew
        if alone:
            among, again = among + int(replaced.sum()), again + int((replaced & shown).sum())
        if alone and step == 1 and watched.shown[0].shape[1]:
            first = watched.shown[0][:, 0], (state.tokens[:, 0] == watched.shown[0][:, 0]).all(-1)
        if bool(state.done.all()):
            draws.check()
            return Played(state.tokens, slot, verified, accepted, step, fault, (among, again), first, (n,))
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
    check_shapes(info, emitted)
