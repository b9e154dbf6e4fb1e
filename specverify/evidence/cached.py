"""A toy with a key-value cache: it notices what the cache of a real model would not hold.

Toys answer by the tokens that were committed, whatever was read. A cache holds what passes were shown, in the slots
where it stood, and rolls back by not advancing. So each context here has slots beside it, which passes write to in
place, as in `realmodels.session`: the token that was committed last and the drafts behind it. What lies in a slot was
computed from all before it, and is written down as a number of all tokens up to there. Contexts that are made of one by
`advance` share its slots; rows that are selected take theirs along. Whenever a context is read, the slots before its
last token must hold what is committed, computed behind what is committed.

    noted = Cached(model)
    ...                      # decode with it: laws and tokens are those of the model
    noted.breach             # "" or the first place where the cache held something else
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int, Num
from torch import Tensor

from specverify import tree
from specverify.deadline import Deadline
from specverify.decoders.registry import Settings
from specverify.draws import Sampled
from specverify.model import AnyModel, Context, Model, row_mask

_NOTHING, _BEGINS = 0, 1
_FOLD, _TOKEN, _DIM = 6364136223846793005, 2862933555777941757, 3935559000370003845
"""Odd, of 62 bits and more: numbers of different tokens meet by chance alone."""


@dataclass(frozen=True)
class _Held:
    """A context, and what a cache holds beside it.

    Attributes:
        inner: the model's.
        due: of what is committed, the number of all tokens up to each; first that of what a sequence begins with.
        length: how many of them.
        ended: whether one of them is the end.
        slots: the numbers of what passes have shown; the last slot is what lies past the end.
    """

    inner: Any
    due: Int[Tensor, "batch slots"]
    length: Int[Tensor, " batch"]
    ended: Bool[Tensor, " batch"]
    slots: Int[Tensor, "batch slots"]


class Cached:
    """A model with a cache beside it, which notices where that holds something else than was committed.

    Args:
        model: whose laws it has.
        most: rows of a batch that has one; contexts of larger ones are the model's own. None for all.

    Attributes:
        breach: the first such place, in words; empty if there was none.
    """

    def __init__(self, model: AnyModel, most: int | None = None) -> None:
        self.inner, self.breach, self.most = model, "", most
        self.name, self.length, self.dtype, self.device = model.name, model.length, model.dtype, model.device
        self._ids = getattr(model, "dim", None) is None

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # asked for by copying, before there is one
            raise AttributeError(name)
        return getattr(self.inner, name)

    def start(self, batch: int) -> Context:
        """See Model."""
        if self.most is not None and batch > self.most:
            return self.inner.start(batch)
        empty = torch.full((batch, self.length + 2), _NOTHING, dtype=torch.int64, device=self.device)
        due, length = empty.clone(), empty[:, 0].clone()
        due[:, 0] = _BEGINS
        return _Held(self.inner.start(batch), due, length, length > 0, empty)

    def laws(self, context: Context, draft: Num[Tensor, "batch w *dim"]) -> Any:
        """See Model; the slots of the last token and of the drafts are written."""
        if not isinstance(context, _Held):
            return self.inner.laws(context, draft)
        self._look(context)
        numbers = [context.due.gather(1, context.length[:, None])[:, 0]]
        for token in self._numbers(draft).unbind(1):
            numbers.append(numbers[-1] * _FOLD + token)
        place = context.length[:, None] + torch.arange(len(numbers), device=self.device)
        context.slots.scatter_(1, place.clamp(max=self.length + 1), torch.stack(numbers, 1))
        return self.inner.laws(context.inner, draft)

    def advance(self, context: Context, tokens: Num[Tensor, "batch n *dim"], count: Int[Tensor, " batch"]) -> Context:
        """See Model."""
        if not isinstance(context, _Held):
            return self.inner.advance(context, tokens, count)
        after = self.inner.advance(context.inner, tokens, count)
        due, length, ended = context.due.clone(), context.length, context.ended
        for slot, token in enumerate(self._numbers(tokens).unbind(1)):
            taken = (count > slot) & (length < self.length)
            number = due.gather(1, length[:, None])[:, 0] * _FOLD + token
            length = length + taken.long()
            due.scatter_(1, length.where(taken, self.length + 1)[:, None], number[:, None])
            if self._ids and self.inner.eos is not None:  # type: ignore[attr-defined]
                ended = ended | (taken & (tokens[:, slot] == self.inner.eos))  # type: ignore[attr-defined]
        return _Held(after, due, length, ended, context.slots)

    def _numbers(self, tokens: Num[Tensor, "batch n *dim"]) -> Int[Tensor, "batch n"]:
        """A number of each token."""
        if self._ids:
            return (tokens + 2) * _TOKEN
        bits = (tokens.double() + 0.0).view(torch.int64)  # 0 and -0 are one
        weights = torch.tensor(_DIM, device=self.device) ** torch.arange(1, tokens.shape[-1] + 1, device=self.device)
        return (bits * weights).sum(-1) * _TOKEN + 1

    def _look(self, context: _Held) -> None:
        """Whether all slots before that of the last token hold what is committed, in rows that have not ended."""
        wrong = (context.slots != context.due) & row_mask(context.length, self.length + 2)
        wrong &= (~context.ended & (context.length < self.length))[:, None]
        if self.breach or not bool(wrong.any()):
            return
        row, slot = (int(i) for i in wrong.nonzero()[0])
        nothing = int(context.slots[row, slot]) == _NOTHING
        what = "nothing" if nothing else "another token, or this one behind other tokens,"
        where = "what a sequence begins with" if slot == 0 else f"the token that was committed at position {slot - 1}"
        self.breach = (
            f"a cache would hold {what} in place of {where}, when a context of {int(context.length[row])} tokens was "
            "read: on toys that changes nothing, and on a real model all laws from there on; what is advanced must be "
            "the context that was read last, with no pass on an older one, a copy or another start in its place"
        )


@torch.no_grad()
def held(
    build: Callable[[Settings], Any],
    settings: Settings,
    model: Model,
    batches: tuple[int, ...],
    seed: int,
    deadline: Deadline,
) -> str:
    """What a cache would not hold while a decoder draws batches of sequences, in words; empty if nothing was seen.

    Of every second batch, rows that are done are dropped once they are half of it, as `decoders.run` does.

    Args:
        build: makes the decoder.
        settings: what it is made with; a draft model has a cache of its own.
        model: the target.
        batches: the rows of each.
        seed: of the draws.
        deadline: after which no more are drawn.

    Raises:
        Exception: what the decoder raises on such a model, if what it did until then was right.
    """
    target, drafts = Cached(model), None if settings.draft_model is None else Cached(settings.draft_model)
    try:
        decoder = build(replace(settings, draft_model=drafts))
        for number, rows in enumerate(batches):
            _draw(decoder, target, rows, Sampled(seed, number, model.device), number % 2 == 0, deadline)
    except Exception:  # wrong slots may be why
        if not told(target, drafts):
            raise
    return told(target, drafts)


def told(target: Cached, drafts: Cached | None) -> str:
    """The breach of a target, or else of its draft model; empty if there is none."""
    return target.breach or ("" if drafts is None or not drafts.breach else f"of the draft model, {drafts.breach}")


def _draw(decoder: Any, model: Cached, rows: int, draws: Sampled, drops: bool, deadline: Deadline) -> None:
    state = decoder.init(model, rows, draws)
    for _ in range(model.length):
        if bool(state.done.all()) or model.breach or deadline.over:
            return
        state, _ = decoder.step(state, model, draws)
        left = (~state.done).nonzero()[:, 0]
        if drops and 0 < len(left) <= len(state.done) // 2:
            state = tree.rows(state, left)
