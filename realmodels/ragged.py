"""One static key-value cache in which every row has its own length, for any transformer that calls `cache.update`.

Transformers of Hugging Face call it as they call their own caches; nothing here needs that package. The buffers are
allocated once. A pass writes at the slots that it was told (`aim`), in place, and attention reads all slots behind a
mask, so that shapes never change and rolling back costs nothing: what was rejected is overwritten by the next pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Ragged:
    """Keys and values of every layer, Float[rows, heads, slots, dim] each.

    Args:
        rows: that there is room for; more are made room for when they are selected.
        slots: of each row.
        front: the slots in front of the first image token.

    Attributes:
        slot: where each input of the pass is written.
        place: likewise, counted from the first image token; below 0 in a prompt.
    """

    slot: Tensor
    place: Tensor

    def __init__(self, rows: int, slots: int, front: int) -> None:
        self.rows, self.slots, self.front = rows, slots, front
        self.buffers: dict[int, tuple[Tensor, Tensor]] = {}

    def aim(self, slots: Int[Tensor, "rows n"]) -> None:
        """Where the next pass writes, in each of the first rows."""
        self.slot, self.place = slots, slots - self.front

    def update(
        self,
        key: Float[Tensor, "rows heads n dim"],
        value: Float[Tensor, "rows heads n width"],
        layer: int,
        *unused: Any,
        **ignored: Any,
    ) -> tuple[Float[Tensor, "rows heads slots dim"], Float[Tensor, "rows heads slots width"]]:
        """Write one layer's new keys and values, and return all that the layer holds."""
        if layer not in self.buffers:
            self.buffers[layer] = (self._empty(key), self._empty(value))
        keys, values = (buffer[: len(key)] for buffer in self.buffers[layer])
        index = self.slot[:, None, :, None]
        keys.scatter_(2, index.expand_as(key), key)
        values.scatter_(2, index.expand_as(value), value)
        return keys, values

    def select(self, index: Int[Tensor, " rows"]) -> None:
        """Make the rows that `index` names the first ones, in its order."""
        self.rows = max(self.rows, len(index))
        for layer, pair in self.buffers.items():
            self.buffers[layer] = (self._selected(pair[0], index), self._selected(pair[1], index))

    def get_seq_length(self, layer: int = 0) -> int:
        """0, of no use where rows differ: releases before 5 ask, and then go by the positions and the mask they got."""
        return 0

    def _empty(self, like: Tensor) -> Tensor:
        return like.new_zeros(self.rows, like.shape[1], self.slots, like.shape[3])

    def _selected(self, buffer: Tensor, index: Tensor) -> Tensor:
        chosen = buffer.index_select(0, index)
        if len(index) > len(buffer):
            return chosen
        buffer[: len(index)] = chosen
        return buffer


@dataclass(frozen=True)
class Inputs:
    """What a transformer is given for one pass.

    Attributes:
        vectors: an input each.
        positions: their position ids.
        mask: what is added to attention scores.
        cache: where keys and values are kept; it knows where these go.
    """

    vectors: Float[Tensor, "rows n width"]
    positions: Int[Tensor, "rows n"]
    mask: Float[Tensor, "rows 1 n slots"]
    cache: Ragged


def additive_mask(visible: Bool[Tensor, "rows n slots"], dtype: torch.dtype) -> Float[Tensor, "rows 1 n slots"]:
    """What is added to attention scores: 0 where a query sees a slot, and else the least number of that type."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min)[:, None]
