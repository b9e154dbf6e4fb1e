"""Torch functions that put numbers in order, or pick the largest: as they are at the real point, which is noted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from specverify.evidence.exact.moving import Handler, name_of
from specverify.evidence.exact.numbers import UNDEFINED, NeedsOrder, OutOfReach

if TYPE_CHECKING:
    from specverify.evidence.exact.tensors import Named


def sorted_by(what: str) -> Handler:
    """sort and argsort, which keep equals as they stood; `what` is which of values and indices come back.

    Not topk: torch leaves open who of equals is among them.
    """

    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        _asked(named, func)
        given = _given(("input", "dim", "descending"), args, kwargs)
        tensor, dim = given["input"], given.get("dim", -1)
        largest, kind = given.get("descending", False), torch.return_types.sort if what == "both" else None
        return _picked(named, tensor, dim, tensor.shape[dim], largest, what, kind)

    return handler


def extreme(largest: bool, what: str) -> Handler:
    """max, min, argmax and argmin along an axis, or of all."""

    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        _asked(named, func)
        given = _given(("input", "dim", "keepdim"), args, kwargs)
        tensor, dim, keep = given["input"], given.get("dim"), given.get("keepdim", False)
        if isinstance(dim, Tensor) or "other" in given:
            return named.bind(func(*args, **kwargs), named.pairwise("maximum" if largest else "minimum", *args))
        if dim is None:
            flat = _picked(named, tensor.reshape(-1), 0, 1, largest, what, None)
            found = flat[0] if isinstance(flat, tuple) else flat
            return found.reshape(())
        kind = None if what != "both" else torch.return_types.max if largest else torch.return_types.min
        picked = _picked(named, tensor, dim, 1, largest, what, kind)
        if keep:
            return picked
        return kind(tuple(part.squeeze(dim) for part in picked)) if kind is not None else picked.squeeze(dim)

    return handler


def _asked(named: Named, func: Any) -> None:
    if named.algebra.orders is None:
        raise NeedsOrder(f"it uses {name_of(func)} on laws, which depends on their order")


def _given(names: tuple[str, ...], args: Any, kwargs: Any) -> Mapping[str, Any]:
    given = dict(zip(names, args, strict=False)) | {("input" if k == "self" else k): v for k, v in kwargs.items()}
    return {key: value for key, value in given.items() if value is not None}


def _picked(named: Named, tensor: Tensor, dim: int, count: int, largest: bool, what: str, kind: Any) -> Any:
    """The first `count` of an axis in order: their values, their places, or both."""
    names = named.numbers_of(tensor).movedim(dim, -1)
    rows = names.reshape(-1, names.shape[-1]).tolist()
    places = torch.tensor([_order(named, row, count, largest) for row in rows], dtype=torch.int64)
    index = places.reshape(*names.shape[:-1], count).movedim(-1, dim)
    if what == "indices":
        return index
    values = named.bind(tensor.gather(dim, index), named.names(tensor).gather(dim, index))
    return values if what == "values" else kind((values, index)) if kind is not None else (values, index)


def _order(named: Named, row: list[int], count: int, largest: bool) -> list[int]:
    """The places of the first `count` numbers of a row in order; who comes before whom is noted.

    By insertion: what is compared depends on nothing but earlier outcomes.
    """
    if UNDEFINED in row:
        raise OutOfReach("it puts numbers in order of which one comes of a division by 0")
    found = [0]
    for place in range(1, len(row)):
        behind = len(found)
        while behind and _before(named, row[place], row[found[behind - 1]], largest):
            behind -= 1
        found = [*found[:behind], place, *found[behind:]][:count]
    return found


def _before(named: Named, later: int, earlier: int, largest: bool) -> bool:
    """Whether a number comes before another that stands before it now; not if they are equal."""
    numbers, algebra = named.numbers, named.algebra
    if numbers.residue[later] == numbers.residue[earlier]:
        return False
    found, assumed = algebra.compare("gt" if largest else "lt", later, earlier)
    if assumed:
        raise OutOfReach("it puts numbers in order that may be equal, or come of a division by 0")
    return found
