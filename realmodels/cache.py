"""A key-value cache in which every row has its own length.

Buffers are static: a pass writes the keys and values of its whole window, in place, at each row's own slots. Rolling a
rejected tail back is *not advancing*: `length` says how many slots of a row count; the rest is junk that attention
masks out and later passes overwrite. So a cache is used linearly: a pass on an old context overwrites slots that a
newer context counts on (gathering rows copies them, which parts the two).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Cache:
    """Keys and values of the tokens fed so far. The batch is the first axis, so `specverify.tree` can gather and join.

    Attributes:
        keys: Float[batch, passes, layers, slots, heads, dim]. `passes` is 2 under guidance (conditional, null class).
            The last slot is a bin for tokens past the end of the sequence; nothing reads it.
        values: as `keys`.
        length: Int[batch], the slots of a row that count.
    """

    keys: Float[Tensor, "batch passes layers slots heads dim"]
    values: Float[Tensor, "batch passes layers slots heads dim"]
    length: Int[Tensor, " batch"]

    def write(
        self,
        layer: int,
        slot: Int[Tensor, "rows n"],
        key: Float[Tensor, "rows n width"],
        value: Float[Tensor, "rows n width"],
    ) -> tuple[Float[Tensor, "rows slots heads dim"], Float[Tensor, "rows slots heads dim"]]:
        """Put one layer's new keys and values at each row's slots and return that layer's buffers.

        Rows are the batch with its passes laid out beside each other, rows = batch * passes; width = heads * dim.
        """
        layers, slots, heads, dim = self.keys.shape[2:]
        first = torch.arange(slot.shape[0], device=slot.device)[:, None] * layers + layer
        index = (first * slots + slot).flatten()
        views = []
        for buffer, new in ((self.keys, key), (self.values, value)):
            buffer.view(-1, heads * dim).index_copy_(0, index, new.reshape(-1, heads * dim))
            views.append(buffer.view(-1, layers, slots, heads, dim)[:, layer])
        return views[0], views[1]


def empty(
    batch: int, passes: int, layers: int, slots: int, heads: int, dim: int, *, dtype: torch.dtype, device: torch.device
) -> Cache:
    """A cache of `batch` rows of length 0."""
    shape = (batch, passes, layers, slots, heads, dim)
    return Cache(
        keys=torch.zeros(shape, dtype=dtype, device=device),
        values=torch.zeros(shape, dtype=dtype, device=device),
        length=torch.zeros(batch, dtype=torch.int64, device=device),
    )


def row_bytes(layers: int, length: int, width: int, heads: int, window: int, vocab: int) -> int:
    """Bytes of an image's cache, and of what a pass over its window holds for a while, about; guidance takes two."""
    kept = 2 * 4 * layers * (length + 1) * width
    passing = 4 * (window + 1) * (16 * width + heads * (length + 1)) + 8 * 8 * (window + 1) * vocab
    return 2 * 2 * (kept + passing)
