"""What each id of a forward pass sees: the positions and the attention mask that a loop hands to a model.

A transformer's law at an id follows from the ids that its mask shows, each at its position; a wrong position, or a mask
that hides what was committed or shows what is yet to come, changes it, and nothing says so. So it is with a toy: for
each id of a pass, those that it sees are laid out by their positions, counted from the first of them, and its law is
that behind the last. Where two have one position the greater id stands, and where none has it, id 0.

So a loop may verify a tree of drafts, pad its batches, and hide what was rejected instead of cutting it off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_FAR = 2**40
"""Beyond all positions."""
HIDDEN = 0
"""The id at a place where nothing is seen."""
Behind = Callable[[Int[Tensor, "rows n"], Int[Tensor, " rows"]], Float[Tensor, "rows n vocab"]]
"""The logits behind each id of sequences, given how long these are; behind them stands `HIDDEN`."""


@dataclass(frozen=True)
class Pass:
    """What a model holds once it has read the ids of a pass.

    Attributes:
        ids: in each slot, those that are held from earlier passes and those of this one behind them.
        positions: of these.
        past: slots of earlier passes.
        queries: ids of this one.
    """

    ids: Int[Tensor, "batch slots"]
    positions: Int[Tensor, "batch slots"]
    past: int
    queries: int

    @classmethod
    def of(cls, ids: Int[Tensor, "batch n"], cache: Any = None, position_ids: Any = None, **others: Any) -> Pass:
        """A pass, once its ids are in the cache.

        Args:
            ids: what the model is called with.
            cache: of transformers; its keys and its values hold ids and their positions.
            position_ids: of these ids, Int[batch or 1, n]; by default what is called `cache_position`, Int[n], among
                the other arguments, and without it those behind what is held.

        Raises:
            ValueError: positions of no such shape, or keys and values that hold different ids.
        """
        past = 0 if cache is None else int(cache.get_seq_length())
        asked = others.get("cache_position") if position_ids is None else position_ids
        positions = _positions(asked, past, ids)
        if cache is None:
            return cls(ids, positions, 0, ids.shape[1])
        slots = torch.stack([ids, positions], -1)[:, None]
        keys, values = cache.update(slots, slots, 0)
        if not torch.equal(keys, values):
            raise ValueError("the cache's keys and values hold different ids; what is done to one is due to the other")
        return cls(keys[:, 0, :, 0], keys[:, 0, :, 1], past, ids.shape[1])

    def logits(self, behind: Behind, mask: Any, keep: Any = 0) -> Float[Tensor, "batch kept vocab"]:
        """Logits behind the ids of the pass; of an id that sees nothing they are all the same.

        Args:
            behind: the model's law.
            mask: `attention_mask`, if any.
            keep: `logits_to_keep`: of so many last ids, 0 for all, or of those that a tensor names.

        Raises:
            ValueError: a mask of another shape or kind.
        """
        logits = self._logits(behind, mask)
        return logits[:, slice(-keep, None) if isinstance(keep, int) else keep]

    def _logits(self, behind: Behind, mask: Any) -> Float[Tensor, "batch queries vocab"]:
        if self._plain(mask):
            return behind(self.ids, torch.full_like(self.ids[:, 0], self.ids.shape[1]))[:, self.past :]
        sees = self._shown(mask)
        row, query = sees.any(-1).nonzero(as_tuple=True)
        if len(row) == 0:
            raise ValueError("attention_mask hides everything from every id of the pass")
        seen, ids, positions = sees[row, query], self.ids[row], self.positions[row]
        place = (positions - positions.masked_fill(~seen, _FAR).amin(1, keepdim=True)).clamp(max=ids.shape[1])
        last = place.masked_fill(~seen, -1).amax(1)
        place = place.where(seen, last[:, None] + 1)  # a place that is not asked for
        laid = ids.new_full((len(row), int(last.max()) + 2), HIDDEN)
        laid.scatter_reduce_(1, place, ids, "amax", include_self=False)
        laid.masked_fill_(torch.arange(laid.shape[1], device=laid.device) > last[:, None], HIDDEN)
        found = behind(laid, last + 1)
        logits = found.new_zeros(*sees.shape[:2], found.shape[-1])
        logits[row, query] = found[torch.arange(len(row), device=last.device), last]
        return logits

    def _plain(self, mask: Any) -> bool:
        """Whether every id sees all before it, each one position behind the last: a sequence, and nothing else."""
        slots = self.past + self.queries
        if self.ids.shape[1] != slots or not bool((self.positions.diff(dim=1) == 1).all()):
            return False
        return mask is None or (isinstance(mask, Tensor) and mask.shape == self.ids.shape and bool(mask.all()))

    def _shown(self, mask: Any) -> Bool[Tensor, "batch queries slots"]:
        """Which slots each id of the pass sees."""
        batch, slots = self.ids.shape
        slot = torch.arange(slots, device=self.ids.device)
        causal = slot <= slot[self.past : self.past + self.queries, None]
        if mask is None:
            return causal.expand(batch, -1, -1)
        if not isinstance(mask, Tensor) or mask.ndim not in (2, 3, 4):
            raise ValueError(f"attention_mask is {type(mask).__name__}; a toy reads tensors of 2 to 4 dimensions")
        if mask.ndim == 2:  # as transformers does: what is behind its end is hidden
            keys = torch.nn.functional.pad(mask != 0, (0, max(0, slots - mask.shape[1])))[:, :slots]
            return keys[:, None].expand(batch, -1, -1) & causal
        heads = mask if mask.ndim == 3 else mask[:, 0]
        shape = (batch, self.queries, slots)
        if heads.shape[1:] != shape[1:] or len(heads) not in (1, batch):
            raise ValueError(
                f"attention_mask has the shape {tuple(mask.shape)}; {self.queries} ids behind {self.past} held ones "
                f"take [{batch}, {slots}] or [{batch}, 1, {self.queries}, {slots}]"
            )
        additive = mask.ndim == 4 and mask.is_floating_point()
        return ((heads >= 0) if additive else (heads != 0)).expand(shape)


def _positions(asked: Any, past: int, ids: Int[Tensor, "batch n"]) -> Int[Tensor, "batch n"]:
    """Of the ids of a pass: those that are asked for, or those behind what is held."""
    if asked is None:
        return (past + torch.arange(ids.shape[1], device=ids.device)).expand(ids.shape)
    found = torch.as_tensor(asked, device=ids.device).long()
    if found.shape not in (ids.shape, (1, ids.shape[1]), ids.shape[1:]):
        raise ValueError(
            f"positions have the shape {tuple(found.shape)}; of these ids it is {list(ids.shape)}, or with 1 row"
        )
    return found.expand(ids.shape)
