"""Torch functions that put numbers in order, or pick the largest: as they are at the real point, which is noted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from specverify.evidence.exact.moving import Handler, name_of
from specverify.evidence.exact.numbers import NeedsOrder, OutOfReach, Unsettled

if TYPE_CHECKING:
    from specverify.evidence.exact.tensors import Named


STABLE = 16
"""Of so many numbers torch keeps equals as they stood, asked to or not."""


def sorted_by(what: str) -> Handler:
    """sort and argsort; `what` is which of values and indices come back.

    Not topk: torch leaves open who of equals is among them.
    """

    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        _asked(named, func)
        given = _given(("input", "dim", "descending"), args, kwargs)
        names, dim = named.names(given["input"]), given.get("dim", -1)
        if names.shape[dim] > STABLE and not given.get("stable", False):
            raise OutOfReach(f"it uses {name_of(func)}, which may put equals in any order; ask for stable=True")
        return _picked(named, func(*args, **kwargs), names, dim, names.shape[dim], given.get("descending", False), what)

    return handler


def extreme(largest: bool, what: str) -> Handler:
    """max, min, argmax and argmin along an axis, or of all."""

    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        given = _given(("input", "dim", "keepdim"), args, kwargs)
        other = given.get("other", given.get("dim"))
        if isinstance(other, Tensor):
            names = named.pairwise("maximum" if largest else "minimum", given["input"], other)
            return named.bind(func(*args, **kwargs), names)
        _asked(named, func)
        names, dim = named.names(given["input"]), given.get("dim")
        if dim is None:
            names, dim, kind = names.reshape(-1), 0, "values" if what == "both" else what
        else:
            kind = what
        return _picked(named, func(*args, **kwargs), names, dim, 1, largest, kind)

    return handler


def _asked(named: Named, func: Any) -> None:
    if named.algebra.orders is None:
        raise NeedsOrder(f"it uses {name_of(func)} on laws, which depends on their order")


def _given(names: tuple[str, ...], args: Any, kwargs: Any) -> Mapping[str, Any]:
    given = dict(zip(names, args, strict=False)) | {("input" if k == "self" else k): v for k, v in kwargs.items()}
    return {key: value for key, value in given.items() if value is not None}


def _picked(named: Named, found: Any, names: Tensor, dim: int, count: int, largest: bool, what: str) -> Any:
    """What torch finds at the real point, if it is the first `count` of an axis in the order that was noted."""
    rows = names.movedim(dim, -1).reshape(-1, names.shape[dim]).tolist()
    places = torch.tensor([_order(named, row, count, largest) for row in rows], dtype=torch.int64)
    shape = [size for axis, size in enumerate(names.shape) if axis != dim % names.ndim]
    index = places.reshape(*shape, count).movedim(-1, dim)
    values, indices = found if what == "both" else (found, None) if what == "values" else (None, found)
    if indices is not None and not torch.equal(indices.reshape(index.shape), index):
        raise OutOfReach("it puts numbers in order of which some are equal")
    if values is not None:
        named.bind(values, names.gather(dim, index).reshape(values.shape))
    return found


def _order(named: Named, row: list[int], count: int, largest: bool) -> list[int]:
    """The places of the first `count` numbers of a row in order; who comes before whom is noted.

    By insertion: what is compared depends on nothing but earlier outcomes.

    Raises:
        OutOfReach: a number is not the same everywhere: it comes of a division, or was chosen by a test.
    """
    if any(named.numbers.assumed[name] for name in row):
        raise Unsettled("it puts numbers in order that come of a division, or were chosen by a test of laws")
    found = [0]
    for place in range(1, len(row)):
        behind = len(found)
        while behind and _before(named, row[place], row[found[behind - 1]], largest):
            behind -= 1
        found = [*found[:behind], place, *found[behind:]][:count]
    return found


def _before(named: Named, later: int, earlier: int, largest: bool) -> bool:
    """Whether a number comes before another that stands before it now; not if they are equal."""
    if later == earlier:
        return False
    found, assumed = named.algebra.compare("gt" if largest else "lt", later, earlier)
    if assumed:
        raise Unsettled("it puts numbers in order that may be equal")
    return found
