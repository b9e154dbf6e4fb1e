"""Batched structures: dataclasses, tuples and dicts of tensors whose first axis is the batch.

Decoder states and model contexts are such structures. Nothing here knows what they hold, so that the enumerator, the
run loop and the recorder can gather, join and compare the rows of any of them.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from specverify.errors import ContractError

T = TypeVar("T")
SHORT = 1 << 15
"""What is below takes 16 bits."""


def map_tensors(tree: T, function: Callable[[Tensor], Tensor]) -> T:
    """Apply `function` to every tensor; everything else is kept as it is."""
    return _rebuild(function, tree)  # type: ignore[no-any-return]


def _rebuild(function: Callable[..., Tensor], *trees: Any) -> Any:
    first = trees[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return function(*trees)
    if (names := _fields(type(first))) is not None:  # type: ignore[arg-type]
        parts = {}
        for name in names:
            values = [getattr(tree, name) for tree in trees]
            parts[name] = function(*values) if isinstance(values[0], Tensor) else _rebuild(function, *values)
        return dataclasses.replace(first, **parts)
    if isinstance(first, dict):
        return {key: _rebuild(function, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(_rebuild(function, *parts) for parts in zip(*trees, strict=True)))
    if isinstance(first, tuple | list):
        if unlike := [len(tree) for tree in trees if len(tree) != len(first)]:
            raise _unlike(f"{len(first)} parts of a {type(first).__name__}", unlike[0])
        return type(first)(_rebuild(function, *parts) for parts in zip(*trees, strict=True))
    if isinstance(first, PLAIN) and any(other != first for other in trees):
        raise _unlike(repr(first), repr(next(x for x in trees if x != first)))
    return first


def _unlike(one: object, other: object) -> ContractError:
    return ContractError(
        f"a state holds {one} in one world and {other} in another; what may differ is a tensor with a row for each, of "
        "one shape"
    )


PLAIN = (type(None), bool, int, float, str, enum.Enum, torch.dtype, torch.device)
"""What a structure may hold beside tensors."""


def others(tree: Any) -> Iterator[Any]:
    """All that is no tensor in a structure; attributes of dataclasses that are no fields come in a list."""
    if isinstance(tree, Tensor):
        return
    if (names := _fields(type(tree))) is not None:  # type: ignore[arg-type]
        for name in names:
            yield from others(getattr(tree, name))
        for name in vars(tree).keys() - set(names) if hasattr(tree, "__dict__") else ():
            yield vars(tree)[name] if isinstance(vars(tree)[name], Tensor) else [vars(tree)[name]]
    elif isinstance(tree, dict):
        for key in tree:
            yield from others(tree[key])
    elif isinstance(tree, tuple | list):
        for part in tree:
            yield from others(part)
    else:
        yield tree


def tensors(tree: Any) -> Iterator[Tensor]:
    """Every tensor of a structure, in a fixed order."""
    if isinstance(tree, Tensor):
        yield tree
    elif (names := _fields(type(tree))) is not None:  # type: ignore[arg-type]
        for name in names:
            value = getattr(tree, name)
            if isinstance(value, Tensor):  # for speed: nothing is asked for as often as this
                yield value
            elif value is not None:
                yield from tensors(value)
    elif isinstance(tree, dict):
        for key in tree:
            yield from tensors(tree[key])
    elif isinstance(tree, tuple | list):
        for part in tree:
            yield from tensors(part)


@functools.lru_cache(maxsize=1024)
def _fields(kind: type) -> tuple[str, ...] | None:
    """The names of a dataclass's fields; None if it is none."""
    if not dataclasses.is_dataclass(kind):
        return None
    names = tuple(field.name for field in dataclasses.fields(kind))
    if lost := [field.name for field in dataclasses.fields(kind) if not field.init]:
        raise ContractError(
            f"{kind.__qualname__} has init=False for {', '.join(lost)}, and a state is made anew for any choice of "
            "its rows; make it a field that is given"
        )
    return names


def rows(tree: T, index: Tensor) -> T:
    """The rows that `index` names (integers, in its order, or a boolean mask), as a structure of the same kind."""
    if index.dtype == torch.bool:
        index = index.nonzero().squeeze(1)
    return map_tensors(tree, lambda tensor: tensor.index_select(0, index))


def join(trees: list[T]) -> T:
    """Structures of one kind, one after the other along the batch axis."""
    if len(trees) == 1:
        return trees[0]
    return _rebuild(_joined, *trees)  # type: ignore[no-any-return]


def _joined(*parts: Tensor) -> Tensor:
    if unlike := [tuple(part.shape[1:]) for part in parts if part.shape[1:] != parts[0].shape[1:]]:
        raise _unlike(f"rows of {tuple(parts[0].shape[1:])}", unlike[0])
    return torch.cat(parts)


def check_made_anew(tree: Any) -> None:
    """Raise ContractError if a structure is another once it is made anew of its own parts, by code of its classes."""
    again = map_tensors(tree, lambda tensor: tensor)
    pairs = zip(tensors(tree), tensors(again), strict=True)
    if any(one is not other and not torch.equal(to_bits(one), to_bits(other)) for one, other in pairs):
        raise ContractError(
            "a state is another once it is made anew of its own tensors, as it is for each choice of its rows; let "
            "step change them, and no __post_init__, __new__ or __iter__"
        )


def batch_size(tree: Any) -> int:
    """The number of rows."""
    for tensor in tensors(tree):
        return tensor.shape[0]
    raise ValueError("this structure holds no tensor, so it has no batch axis")


def plain(tensor: Tensor) -> Tensor:
    """A tensor's numbers, whatever kind of tensor they stand in."""
    if type(tensor) is Tensor:
        return tensor
    with torch._C.DisableTorchFunctionSubclass():
        return Tensor.as_subclass(tensor, Tensor)


def to_bits(tree: Any) -> Tensor:
    """Every row's content as 64-bit integers, Int[batch, width]: two rows are equal if and only if these are.

    Floats are compared bit by bit, after -0.0 is made 0.0.
    """
    return torch.cat([_bits(tensor) for tensor in map(plain, tensors(tree))], dim=1)


def _bits(tensor: Tensor) -> Tensor:
    flat = tensor.reshape(tensor.shape[0], -1)
    if flat.is_complex():
        flat = torch.view_as_real(flat).flatten(1)
    if flat.is_floating_point():
        flat = (flat.double() + 0.0).view(torch.int64)
    return flat.to(torch.int64)


def _packed(tree: Any) -> Tensor:
    """As `to_bits`, for rows of this structure alone: integers that are small share a column."""
    every = [plain(tensor) for tensor in tensors(tree)]
    columns = [_bits(tensor) for tensor in every if not _of_floats(tensor)]
    if columns and (whole := torch.cat(columns, 1)).numel():
        columns = [whole]
        if int(whole.min()) >= -SHORT and int(whole.max()) < SHORT:
            columns = [torch.nn.functional.pad(whole.to(torch.int16), (0, -whole.shape[1] % 4)).view(torch.int64)]
    return torch.cat([*columns, *(_bits(tensor) for tensor in every if _of_floats(tensor))], 1)


def _of_floats(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def hashed(bits: Tensor) -> Tensor:
    """A 64-bit hash of each row of `to_bits`, Int[batch]."""
    # Floats may differ in a few high bits alone, which a product keeps high: so they are shifted down, twice.
    once, twice, last = _factors(bits.shape[1]).to(bits.device).unbind(0)
    mixed = bits * once
    mixed = mixed.bitwise_xor_(mixed >> 32).mul_(twice)
    mixed = mixed.bitwise_xor_(mixed >> 29)
    return mixed.mv(last) if bits.device.type == "cpu" else (mixed * last).sum(1)


@functools.lru_cache(maxsize=256)
def _factors(width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-(2**63), 2**63 - 1, (3, width), generator=generator) | 1


def merged(structure: T, weight: Tensor) -> tuple[T, Tensor]:
    """Equal rows become one, with the sum of their weights.

    Rows are grouped by a hash and compared bit by bit; where two of them share a hash, they are grouped by all bits.
    """
    bits = _packed(structure)
    group, first = _grouped(hashed(bits))
    if len(first) == len(bits):
        return structure, weight
    if not torch.equal(bits, bits.index_select(0, first[group])):
        group, first = _grouped(bits.unique(dim=0, return_inverse=True)[1])
    groups = len(first)
    return rows(structure, first), torch.zeros(groups, dtype=weight.dtype, device=weight.device).index_add_(
        0, group, weight
    )


def _grouped(key: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's group of equal keys, and one row of each group."""
    ordered, order = key.sort()
    starts = torch.cat([torch.ones_like(ordered[:1], dtype=torch.bool), ordered[1:] != ordered[:-1]])
    group = torch.empty_like(order).scatter_(0, order, starts.cumsum(0) - 1)
    return group, order[starts]
