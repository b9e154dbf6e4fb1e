"""A toy with a key-value cache: it notices what the cache of a real model would not hold.

Toys answer by the tokens that were committed, whatever was read. A cache holds what passes were shown, in the slots
where it stood, and rolls back by not advancing. So each context here has slots beside it, which passes write to in
place, as in `realmodels.session`: the token that was committed last and the drafts behind it. Contexts that are made of
one by `advance` share its slots; rows that are selected take theirs along. Whenever a context is read, what is
committed before its last token must lie in its slots.

    noted = Cached(model)
    ...                      # decode with it: laws and tokens are those of the model
    noted.breach             # "" or the first place where the cache held something else
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int, Num
from torch import Tensor

from specverify.deadline import Deadline
from specverify.decoders.registry import Settings
from specverify.errors import BudgetError
from specverify.evidence.bare import sequences
from specverify.model import AnyModel, Context, Model, row_mask


@dataclass(frozen=True)
class _Held:
    """A context, and what a cache holds beside it.

    Attributes:
        inner: the model's.
        tokens: what was committed; position i is slot i + 1.
        length: how many of them.
        slots: what passes have shown; the first is what a sequence begins with, the last what lies past the end.
    """

    inner: Any
    tokens: Num[Tensor, "batch length *dim"]
    length: Int[Tensor, " batch"]
    slots: Num[Tensor, "batch slots *dim"]


class Cached:
    """A model with a cache beside it, which notices where that holds something else than was committed.

    Attributes:
        breach: the first such place, in words; empty if there was none.
    """

    def __init__(self, model: AnyModel) -> None:
        self.inner, self.breach = model, ""
        self.name, self.length, self.dtype, self.device = model.name, model.length, model.dtype, model.device
        dim = getattr(model, "dim", None)
        # What no token is: of vectors, nothing is as good as another nothing.
        self._nothing: float = -1 if dim is None else math.nan
        self._beginning: float = -2 if dim is None else math.inf
        self._shape: tuple[int, ...] = () if dim is None else (dim,)
        self._type = torch.int64 if dim is None else model.dtype

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # asked for by copying, before there is one
            raise AttributeError(name)
        return getattr(self.inner, name)

    def start(self, batch: int) -> Context:
        """See Model."""
        size = (batch, self.length + 2, *self._shape)
        empty = torch.full(size, self._nothing, dtype=self._type, device=self.device)
        length = torch.zeros(batch, dtype=torch.int64, device=self.device)
        return _Held(self.inner.start(batch), empty[:, 2:].clone(), length, empty)

    def laws(self, context: Context, draft: Num[Tensor, "batch w *dim"]) -> Any:
        """See Model; the slots of the last token and of the drafts are written."""
        begins = torch.full_like(context.slots[:, :1], self._beginning)
        due = torch.cat([begins, context.tokens], 1)
        self._look(context, due)
        row = torch.arange(len(due), device=due.device)[:, None]
        place = context.length[:, None] + torch.arange(draft.shape[1] + 1, device=draft.device)
        last = due[row, context.length[:, None]]
        context.slots[row, place.clamp(max=self.length + 1)] = torch.cat([last, draft], 1)
        return self.inner.laws(context.inner, draft)

    def advance(self, context: Context, tokens: Num[Tensor, "batch n *dim"], count: Int[Tensor, " batch"]) -> Context:
        """See Model."""
        after = self.inner.advance(context.inner, tokens, count)
        place = context.length[:, None] + torch.arange(tokens.shape[1], device=tokens.device)
        row, slot = (row_mask(count, tokens.shape[1]) & (place < self.length)).nonzero(as_tuple=True)
        written = context.tokens.clone()
        written[row, place[row, slot]] = tokens[row, slot]
        return _Held(after, written, (context.length + count).clamp(max=self.length), context.slots)

    def _look(self, context: _Held, due: Tensor) -> None:
        """Whether all that is committed before the last token lies in its slot, in rows that have not ended."""
        apart = (context.slots[:, : due.shape[1]] != due).reshape(*due.shape[:2], -1).any(-1)
        wrong = apart & row_mask(context.length, due.shape[1]) & (context.length < self.length)[:, None]
        if not self._shape and self.inner.eos is not None:  # type: ignore[attr-defined]  # of ids
            is_end = context.tokens == self.inner.eos  # type: ignore[attr-defined]
            wrong &= ~(is_end & row_mask(context.length, self.length)).any(1)[:, None]
        if self.breach or not bool(wrong.any()):
            return
        row, slot = (int(i) for i in wrong.nonzero()[0])
        nothing = bool((context.slots[row, slot] == self._nothing).all() | context.slots[row, slot].isnan().all())
        what = "nothing" if nothing else "another token"
        where = "what a sequence begins with" if slot == 0 else f"the token that was committed at position {slot - 1}"
        self.breach = (
            f"a cache would hold {what} in place of {where}, when a context of {int(context.length[row])} tokens was "
            "read: on toys that changes nothing, and on a real model all laws from there on; what is advanced must be "
            "the context that was read last, with no pass on an older one, a copy or another start in its place"
        )


def held(
    build: Callable[[Settings], Any], settings: Settings, model: Model, rows: int, n: int, seed: int, deadline: Deadline
) -> str:
    """What a cache would not hold while a decoder draws sequences, in words; empty if nothing was seen.

    Args:
        build: makes the decoder.
        settings: what it is made with; a draft model has a cache of its own.
        model: the target.
        rows: of a batch.
        n: sequences.
        seed: of the draws.
        deadline: after which no more are drawn.

    Raises:
        Exception: what the decoder raises on such a model, if what it did until then was right.
    """
    target = Cached(model)
    drafts = None if settings.draft_model is None else Cached(settings.draft_model)
    try:
        sequences(build(replace(settings, draft_model=drafts)), target, n, seed, rows, deadline)
    except BudgetError:
        pass
    except Exception:  # wrong slots may be why
        if not target.breach:
            raise
    return target.breach or ("" if drafts is None or not drafts.breach else f"of the draft model, {drafts.breach}")
