"""Orders that leave nothing to chance, and nearest neighbours in an embedding."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.errors import InputError

_BLOCK = 1 << 24


def order_key(values: Float[Tensor, "*shape n"]) -> Int[Tensor, "*shape n"]:
    """Integers of at least 0, all different, in the order of (value, place): ties go by place, on every device.

    Takes values of at least 0. Up to single precision a key is the value's bits with the place behind them; double
    precision has no room for that, and is sorted.
    """
    place = torch.arange(values.shape[-1], device=values.device)
    if values.dtype == torch.float64:
        order = values.argsort(dim=-1, stable=True)
        return torch.empty_like(order).scatter_(-1, order, place.expand_as(order))
    bits = (values.float() + 0.0).view(torch.int32).long()  # -0.0 becomes 0.0
    bits <<= 31
    bits |= place
    return bits


def nearest(embedding: Float[Tensor, "vocab dim"], k: int) -> Int[Tensor, "vocab k"]:
    """Each token's k nearest others by Euclidean distance, nearest first, ties by token id.

    Raises:
        InputError: the embedding is no finite table of one row per token, or k is not in 1 .. vocab - 1.
    """
    check_embedding(embedding)
    vocab = len(embedding)
    if not 1 <= k < vocab:
        raise InputError(f"k = {k} nearest neighbours of {vocab} tokens; k lies between 1 and {vocab - 1}")
    found = []
    for rows in torch.arange(vocab, device=embedding.device).split(max(1, _BLOCK // vocab)):
        distance = torch.cdist(embedding[rows], embedding, compute_mode="donot_use_mm_for_euclid_dist")
        key = order_key(distance).scatter(1, rows[:, None], torch.iinfo(torch.int64).max)
        found.append(key.topk(k, dim=1, largest=False, sorted=True).indices)
    return torch.cat(found)


def check_embedding(embedding: Tensor, vocab: int | None = None) -> None:
    """Raise InputError unless there is one finite row per token (of `vocab`, if given)."""
    if embedding.ndim != 2 or not embedding.is_floating_point() or 0 in embedding.shape:
        raise InputError(
            f"the embedding has shape {tuple(embedding.shape)} and dtype {embedding.dtype}; "
            "it is a floating-point table [vocab, dim]"
        )
    if vocab is not None and embedding.shape[0] != vocab:
        raise InputError(f"the embedding has {embedding.shape[0]} rows, but the vocabulary has {vocab} tokens")
    # Looks at values, and so waits for the device: only when a rule is built, never when it judges.
    if vocab is None and not bool(embedding.isfinite().all()):
        raise InputError("the embedding holds NaN or infinity; every token needs a place")
