"""Torch functions that put numbers elsewhere: the same is done to their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from specverify.evidence.exact.numbers import OutOfReach

if TYPE_CHECKING:
    from specverify.evidence.exact.tensors import Named

Handler = Callable[["Named", Any, Any, Any], Any]
"""(names, function, arguments, arguments by keyword) -> the function's result, named."""
_OWNERS = (Tensor, torch, torch.nn.functional, torch._C._nn)


def known(names: str) -> set[Any]:
    """The functions of these names, wherever torch has them."""
    return {getattr(owner, name) for owner in _OWNERS for name in names.split() if hasattr(owner, name)}


INDEX_PUT = known("index_put index_put_")
PUT = INDEX_PUT | known("index_copy index_copy_")
LIKE = known("expand_as view_as to type_as")
UNFILLED = known("empty empty_like new_empty empty_strided empty_permuted new_empty_strided resize_ resize_as_")
JOINED = known("cat concat concatenate stack hstack vstack")
COUNTED = known("repeat_interleave")
CONVERTED = known("double float half int long bool type to type_as cpu")


def name_of(func: Any) -> str:
    """A function's name."""
    return str(getattr(func, "__name__", func)).strip("_")


def in_place(func: Any) -> bool:
    """Whether a function writes to its first argument."""
    name = str(getattr(func, "__name__", ""))
    return (name.endswith("_") and not name.endswith("__")) or (name.startswith("__i") and name != "__invert__")


def as_it_is(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """What tells of shapes alone."""
    return func(*args, **kwargs)


def fresh(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """New tensors, like others in shape."""
    if any_named(named, (args[1:], kwargs)):
        raise OutOfReach(f"it uses {name_of(func)} on laws")
    return func(*args, **kwargs)


def unfilled(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """New memory, in which nothing stands that could be told: NaN, or a number that is no token."""
    if in_place(func):
        raise OutOfReach(f"it uses {name_of(func)}, which leaves open what stands in memory")
    if any_named(named, (args[1:] if args and isinstance(args[0], Tensor) else args, kwargs)):
        raise OutOfReach(f"it uses {name_of(func)} with sizes that depend on laws")
    result = func(*args, **kwargs)
    if result.is_floating_point():
        return result.fill_(torch.nan)
    if result.dtype != torch.int64:
        raise OutOfReach(f"it uses {name_of(func)} for {result.dtype}, which leaves open what stands there")
    return result.fill_(torch.iinfo(torch.int64).min)


def moved(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """Numbers that are put elsewhere: the same is done to their names. Masks and indexes are what they are."""
    if func in LIKE and not named.has_names(args[0]):
        return func(*args, **kwargs)
    if kwargs.get("accumulate") or (func in INDEX_PUT and len(args) > 3 and args[3]):
        raise OutOfReach("it adds up laws with index_put")
    if named.has_tests(args[0]):
        return _moved_tests(named, func, args, kwargs)
    if func in JOINED and any(named.has_tests(part) for part in args[0]):
        return _joined_tests(named, func, args, kwargs)
    others = {key: _renamed(named, part) for key, part in kwargs.items() if key != "dtype"}
    parts = [_renamed(named, part) for part in args if not isinstance(part, torch.dtype)]
    result = func(*args, **kwargs)
    if isinstance(result, Tensor) and result.dtype != torch.float64:
        raise OutOfReach(f"it turns laws into {result.dtype}")
    names: Any = named.names(args[0]) if func in CONVERTED else func(*parts, **others)
    for each, own in zip(_listed(result), _listed(names), strict=True):
        named.bind(each, own)
    return result


def _moved_tests(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """Outcomes of tests that are put elsewhere, or converted: True and False are 1 and 0 in any type."""
    if func in PUT or func in COUNTED or any_named(named, (args[2:] if func in LIKE else args[1:], kwargs)):
        raise OutOfReach(f"it uses {name_of(func)} on the outcomes of tests of laws")
    if func not in CONVERTED and any(isinstance(part, torch.dtype) for part in (*args, *kwargs.values())):
        raise OutOfReach(f"it looks at the bits of the outcomes of tests of laws, by {name_of(func)}")
    result, own = func(*args, **kwargs), named.tests(args[0], undecided=True)
    if func not in CONVERTED:
        own = func(own, *args[1:], **kwargs)
    for each, tests in zip(_listed(result), _listed(own), strict=True):
        if each.dtype != args[0].dtype and func not in CONVERTED:
            raise OutOfReach(f"it looks at the bits of the outcomes of tests of laws, as {each.dtype}")
        named.tested(each, tests)
    return result


def _joined_tests(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """Outcomes of tests beside others, and beside masks that came of no law."""
    if any(part.dtype != torch.bool for part in args[0]) or any_named(named, (args[1:], kwargs)) or "dtype" in kwargs:
        raise OutOfReach(f"it uses {name_of(func)} on the outcome of a test of laws and on what is no mask")
    own = func([named.tests(part, undecided=True) for part in args[0]], *args[1:], **kwargs)
    return named.tested(func(*args, **kwargs), own)


def any_named(named: Named, arguments: Any) -> bool:
    """Whether there are named tensors in arguments, at any depth."""
    return any(named.has_names(tensor) for tensor in tensors_in(arguments))


def tensors_in(arguments: Any) -> Iterator[Tensor]:
    """Every tensor among arguments."""
    if isinstance(arguments, Tensor):
        yield arguments
    elif isinstance(arguments, dict):
        for part in arguments.values():
            yield from tensors_in(part)
    elif isinstance(arguments, tuple | list):
        for part in arguments:
            yield from tensors_in(part)
    elif isinstance(arguments, slice):
        yield from tensors_in((arguments.start, arguments.stop, arguments.step))


def padded(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """Constants around numbers."""
    given = dict(zip(("input", "pad", "mode", "value"), args, strict=False)) | kwargs
    value = 0.0 if given.get("value") is None else given["value"]
    if given.get("mode", "constant") != "constant" or isinstance(value, Tensor) or given["input"].dtype == torch.bool:
        raise OutOfReach("it pads laws with other than constants, or the outcomes of tests of laws")
    names = named.names(given["input"])
    own = torch.nn.functional.pad(names, given["pad"], value=named.numbers.constant(value))
    return named.bind(func(*args, **kwargs), own)


def _renamed(named: Named, part: Any) -> Any:
    if isinstance(part, slice):
        for each in (part.start, part.stop, part.step):
            _renamed(named, each)
            if isinstance(each, Tensor) and named.has_names(each):
                raise OutOfReach("it takes a number of laws for a place")
        return part
    if isinstance(part, Tensor):
        if part.is_floating_point():
            return named.names(part)
        if named.has_names(part):
            raise OutOfReach("it picks laws by the outcome of a test of laws; choose them with torch.where")
        return part
    if isinstance(part, tuple | list):
        return type(part)(_renamed(named, each) for each in part)
    return part


def _listed(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


def written(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """Writing in place: to the names as well, of all memory that the tensor is part of."""
    prepare(named, args[0])
    result = func(*args, **kwargs)
    own = named.names(args[0])
    func(own, *[_renamed(named, part) for part in args[1:]], **{k: _renamed(named, v) for k, v in kwargs.items()})
    named.check(args[0], own)
    return result


def prepare(named: Named, tensor: Tensor) -> None:
    """Name the constants in memory that laws are written to."""
    if tensor.dtype != torch.float64:
        raise OutOfReach(f"it writes laws into a tensor of {tensor.dtype}")
    if not named.has_names(tensor):
        whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
        named.bind(whole, named.names(whole))


def set_item(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """`tensor[index] = value`."""
    tensor, index, value = args
    prepare(named, tensor)
    if named.has_tests(index) and index.dtype == torch.bool:
        mask = index.reshape(*index.shape, *[1] * (tensor.ndim - index.ndim))
        if mask.shape[: index.ndim] != tensor.shape[: index.ndim] or (isinstance(value, Tensor) and value.ndim):
            raise OutOfReach("it writes several numbers to places that a test of laws picks; choose with torch.where")
        _chosen_in_place(named, tensor, mask, value, lambda: func(tensor, index, value))
    else:
        func(tensor, index, value)
        own = named.names(tensor)
        own[_renamed(named, index)] = named.names(value)
        named.check(tensor, own)


def filled(at: int) -> Handler:
    """Functions that put one number, or numbers, in places: `value`, or the argument at that place."""

    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        in_place = str(getattr(func, "__name__", "")).endswith("_")
        if in_place:
            prepare(named, args[0])
        result = func(*args, **kwargs)
        rest = dict(kwargs)
        if "reduce" in rest or any_named(named, rest):
            raise OutOfReach(f"it uses {name_of(func)} with {', '.join(rest)} on laws")
        parts = [*args]
        for key in ("value", "src", "source"):
            if key in rest:
                parts.append(rest.pop(key))
        tensor, value = named.names(parts[0]), parts[at]
        new = [tensor, *[_renamed(named, part) for part in parts[1:at]]]
        filling = named.names(value)
        names = func(*new, filling if isinstance(value, Tensor) else int(filling), **rest)
        return named.bind(result, named.names(args[0]) if in_place else names)

    return handler


def chosen_where(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """`torch.where`: a choice, which may rest on tests of laws."""
    if kwargs or len(args) != 3:
        raise OutOfReach("it looks for the places where laws are not 0")
    condition, one, other = args if func is torch.where else (args[1], args[0], args[2])
    return _choose(named, condition, one, other, func(*args))


def masked_fill(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """The same, with one number for the other choice."""
    given = dict(zip(("self", "mask", "value"), args, strict=False)) | kwargs
    tensor, mask, value = given["self"], given["mask"], given["value"]
    if in_place(func):
        prepare(named, tensor)
        return _chosen_in_place(named, tensor, mask, value, lambda: func(*args, **kwargs))
    return _choose(named, mask, value, tensor, func(*args, **kwargs))


def _chosen_in_place(named: Named, tensor: Tensor, mask: Tensor, value: Any, write: Callable[[], Any]) -> Any:
    """`torch.where(mask, value, tensor)`, written to the tensor."""
    if any(size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)):
        raise OutOfReach("it writes to numbers of which some are one; clone them before")
    names = _choice(named, mask, value, tensor).expand(tensor.shape)
    result = write()
    named.names(tensor).copy_(names)
    named.check(tensor, names)
    return result


def _choose(named: Named, condition: Tensor, one: Any, other: Any, result: Tensor) -> Tensor:
    if result.dtype != torch.float64:
        raise OutOfReach("the outcome of a test of laws decides more than which law is taken")
    return named.bind(result, _choice(named, condition, one, other))


def _choice(named: Named, condition: Tensor, one: Any, other: Any) -> Tensor:
    a, b, tests = named.names(one), named.names(other), named.tests(condition, undecided=True)
    names, instead = torch.where(condition, a, b), torch.where(condition, b, a)
    return named.chosen(names, instead, tests.expand(names.shape))
