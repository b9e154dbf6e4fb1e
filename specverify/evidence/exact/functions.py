"""Which torch functions can be carried out on named numbers, and how; all others are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from specverify.evidence.exact.numbers import ONE, ZERO, Assumption, OutOfReach

if TYPE_CHECKING:
    from specverify.evidence.exact.tensors import Named

_SHAPES = (
    "size dim ndimension numel nelement stride storage_offset element_size is_contiguous is_floating_point is_complex "
    "__len__ get_device requires_grad_ is_pinned __hash__ is_tensor"
)
_PROPERTIES = "shape dtype device ndim layout requires_grad is_sparse is_cuda is_quantized is_nested is_meta names grad"
_FRESH = "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty"
_MOVED = (
    "gather take_along_dim index_select reshape view view_as flatten unflatten expand expand_as broadcast_to squeeze "
    "unsqueeze permute transpose swapaxes movedim flip roll repeat repeat_interleave tile narrow select unbind split "
    "chunk tensor_split clone contiguous detach cat concat concatenate stack hstack vstack __getitem__ diagonal t "
    "double to type_as cpu masked_select index_copy index_put pad"
)
_WRITTEN = "copy_ zero_ index_copy_ index_put_"
_VIEWED = "T mT data H"
_ORDERS = {"gt": "gt", "greater": "gt", "ge": "ge", "lt": "lt", "less": "lt", "le": "le", "eq": "eq", "ne": "ne"}
Handler = Callable[["Named", Any, Any, Any], Any]


def carry_out(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """A function on tensors of which some have names.

    Raises:
        OutOfReach: it cannot be followed.
    """
    handler = _HANDLERS.get(func)
    if handler is None:
        owner = getattr(getattr(func, "__self__", None), "__name__", "")
        handler = _of_property(owner) if getattr(func, "__name__", "") == "__get__" else None
    if handler is None or kwargs.get("out") is not None:
        raise OutOfReach(f"it uses {_name(func)} on laws")
    return handler(named, func, args, kwargs)


def _name(func: Any) -> str:
    return str(getattr(func, "__name__", func)).strip("_")


def _of_property(owner: str) -> Handler | None:
    return _as_it_is if owner in _PROPERTIES.split() else _moved if owner in _VIEWED.split() else None


def _as_it_is(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    return func(*args, **kwargs)


def _fresh(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    if any(named.has_names(part) for part in (*args[1:], *kwargs.values()) if isinstance(part, Tensor)):
        raise OutOfReach(f"it uses {_name(func)} on laws")
    return _UNFILLED.get(func, func)(*args, **kwargs)


def _moved(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """Numbers that are put elsewhere: the same is done to their names. Masks and indexes are what they are."""
    if func in _LIKE and not named.has_names(args[0]):
        return func(*args, **kwargs)
    if kwargs.get("accumulate") or (func in _INDEX_PUT and len(args) > 3 and args[3]):
        raise OutOfReach("it adds up laws with index_put")
    result = func(*args, **kwargs)
    if isinstance(result, Tensor) and result.dtype not in (torch.float64, torch.bool):
        raise OutOfReach(f"it turns laws into {result.dtype}")
    if isinstance(result, Tensor) and result.dtype == torch.bool:
        return _moved_tests(named, func, args, kwargs, result)
    others = {key: _renamed(named, part) for key, part in kwargs.items() if key != "dtype"}
    parts = [_renamed(named, part) for part in args if not isinstance(part, torch.dtype)]
    if func in _CONVERTED:
        names: Any = named.numbers_of(args[0])
    else:
        names = func(*parts, **others)
    for each, own in zip(_listed(result), _listed(names), strict=True):
        named.bind(each, own)
    return result


def _moved_tests(named: Named, func: Any, args: Any, kwargs: Any, result: Tensor) -> Tensor:
    tests = [part for part in (*args, *kwargs.values()) if isinstance(part, Tensor) and named.has_names(part)]
    if len(tests) != 1 or tests[0] is not args[0]:
        raise OutOfReach(f"it uses {_name(func)} on the outcomes of tests of laws")
    return named.tested(result, func(named.tests(args[0]), *args[1:], **kwargs))


def _renamed(named: Named, part: Any) -> Any:
    if isinstance(part, Tensor):
        if part.is_floating_point():
            return named.names(part)
        if named.has_names(part):
            raise OutOfReach("it picks laws by the outcome of a test of laws; choose them with torch.where")
        return part
    if isinstance(part, tuple | list) and any(isinstance(each, Tensor) for each in part):
        return type(part)(_renamed(named, each) for each in part)
    return part


def _listed(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


def _written(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """Writing in place: to the names as well, of all memory that the tensor is part of."""
    _prepare(named, args[0])
    result = func(*args, **kwargs)
    own = named.names(args[0])
    func(own, *[_renamed(named, part) for part in args[1:]], **{k: _renamed(named, v) for k, v in kwargs.items()})
    named.check(args[0], own)
    return result


def _prepare(named: Named, tensor: Tensor) -> None:
    if tensor.dtype != torch.float64:
        raise OutOfReach(f"it writes laws into a tensor of {tensor.dtype}")
    if not named.has_names(tensor):
        whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())  # type: ignore[call-overload]
        named.bind(whole, named.names(whole))


def _set_item(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    tensor, index, value = args
    _prepare(named, tensor)
    func(tensor, index, value)
    own = named.names(tensor)
    own[_renamed(named, index)] = named.numbers_of(value)
    named.check(tensor, own)


def _filled(at: int) -> Handler:
    """Functions that put one number, or numbers, in places: `value`, or the argument at that place."""

    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        in_place = str(getattr(func, "__name__", "")).endswith("_")
        if in_place:
            _prepare(named, args[0])
        result = func(*args, **kwargs)
        rest = dict(kwargs)
        if "reduce" in rest:
            raise OutOfReach(f"it uses {_name(func)} with reduce on laws")
        parts = [*args]
        for key in ("value", "src", "source"):
            if key in rest:
                parts.append(rest.pop(key))
        tensor, value = named.numbers_of(parts[0]), parts[at]
        new = [tensor, *[_renamed(named, part) for part in parts[1:at]]]
        filling = named.numbers_of(value)
        names = func(*new, filling if isinstance(value, Tensor) else int(filling), **rest)
        return named.bind(result, named.names(args[0]) if in_place else names)

    return handler


def _where(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    if kwargs or len(args) != 3:
        raise OutOfReach("it looks for the places where laws are not 0")
    condition, one, other = args if func is torch.where else (args[1], args[0], args[2])
    return _choose(named, condition, one, other, func(*args))


def _masked_fill(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    result = func(*args, **kwargs)
    value = kwargs["value"] if "value" in kwargs else args[2]
    mask = kwargs["mask"] if "mask" in kwargs else args[1]
    return _choose(named, mask, value, args[0], result)


def _choose(named: Named, condition: Tensor, one: Any, other: Any, result: Tensor) -> Tensor:
    if result.dtype != torch.float64:
        raise OutOfReach("the outcome of a test of laws decides more than which law is taken")
    a, b, tests = named.numbers_of(one), named.numbers_of(other), named.tests(condition)
    names, instead = torch.where(condition, a, b), torch.where(condition, b, a)
    return named.bind(result, named.chosen(names, instead, tests.expand(names.shape)))


def _arithmetic(operation: str, swapped: bool = False) -> Handler:
    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        rest = {key: value for key, value in kwargs.items() if key not in ("other", "exponent")}
        if any(value not in (None, 1) for value in rest.values()) or len(args) > 2:
            raise OutOfReach(f"it uses {_name(func)} with {', '.join(kwargs)} on laws")
        one, other = (*args, *(kwargs[key] for key in ("other",) if key in kwargs))
        names = named.pairwise(operation, *((other, one) if swapped else (one, other)))
        return _finished(named, func, args, kwargs, names)

    return handler


def _finished(named: Named, func: Any, args: Any, kwargs: Any, names: Tensor) -> Tensor:
    """The result of arithmetic, in place where the function is."""
    if not _in_place(func):
        return named.bind(func(*args, **kwargs), names)
    _prepare(named, args[0])
    names = names.clone()
    func(*args, **kwargs)
    named.names(args[0]).copy_(names)
    named.check(args[0], names)
    return args[0]  # type: ignore[no-any-return]


def _in_place(func: Any) -> bool:
    name = str(getattr(func, "__name__", ""))
    return (name.endswith("_") and not name.endswith("__")) or (name.startswith("__i") and name != "__invert__")


def _negative(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    def turned(name: int, _: int) -> int:
        a, b = named.numbers.difference.get(name, [(name, ZERO)])[0]
        return named.algebra.apply("sub", b, a)

    names = named.numbers_of(args[0])
    return _finished(named, func, args, kwargs, named.each(turned, names, torch.zeros_like(names)))


def _single(method: str) -> Handler:
    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        names = named.numbers_of(args[0])
        function = getattr(named.algebra, method)
        return _finished(named, func, args, kwargs, named.each(lambda x, _: function(x), names, names * 0))

    return handler


def _power(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    exponent = args[1] if len(args) > 1 else kwargs.get("exponent", 2)
    if isinstance(exponent, Tensor) or exponent != int(exponent) or not 0 <= exponent <= 8:
        raise OutOfReach(f"it takes laws to the power {exponent}")
    base = named.numbers_of(args[0])
    names = torch.full_like(base, ONE)
    for _ in range(int(exponent)):
        names = named.each(lambda x, y: named.algebra.apply("mul", x, y), names, base)
    return _finished(named, func, args, kwargs, names)


def _clamp(low: int | None, high: int | None) -> Handler:
    """Bounds by their place among the arguments."""

    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        least = args[low] if low is not None and len(args) > low else kwargs.get("min")
        most = args[high] if high is not None and len(args) > high else kwargs.get("max")
        names = named.numbers_of(args[0])
        if least is not None:
            zero = not isinstance(least, Tensor) and least == 0
            bound = named.numbers_of(least).expand(names.shape) if not zero else names * 0
            names = named.each(
                lambda x, y: (
                    named.algebra.positive_part(x) if y == ZERO else named.algebra.apply("maximum", x, y)
                ),
                names, bound,
            )  # fmt: skip
        if most is not None:
            bound = named.numbers_of(most).expand(names.shape)
            names = named.each(lambda x, y: named.algebra.apply("minimum", x, y), names, bound)
        return _finished(named, func, args, kwargs, names)

    return handler


def _folded(operation: str, running: bool, mean: bool = False) -> Handler:
    """Sums and products along axes."""

    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        dims = args[1] if len(args) > 1 else kwargs.get("dim")
        keep = args[2] if len(args) > 2 and not running else kwargs.get("keepdim", False)
        names = named.numbers_of(args[0])
        axes = range(names.ndim) if dims is None else [dims] if isinstance(dims, int) else list(dims)
        start, count = (ZERO, ONE)[operation == "mul"], 1
        for axis in sorted((axis % max(names.ndim, 1) for axis in axes), reverse=True):
            count *= names.shape[axis] if names.ndim else 1
            parts = names.unbind(axis) if names.ndim else (names,)
            found = [torch.full_like(names.select(axis, 0), start) if parts else names.sum(axis) * 0 + start]
            for part in parts:
                found.append(named.each(lambda x, y: named.algebra.apply(operation, x, y), found[-1], part))
            names = torch.stack(found[1:], axis) if running else found[-1]
            if keep and not running:
                names = names.unsqueeze(axis)
        if mean:
            names = named.pairwise("div", *_as_numbers(named, names, count))
        return _finished(named, func, args, kwargs, names)

    return handler


def _as_numbers(named: Named, names: Tensor, count: int) -> tuple[Tensor, float]:
    return named.bind(named.values(names).clone(), names), float(count)


def _scatter_add(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    given = dict(zip(("self", "dim", "index", "src"), args, strict=False)) | kwargs
    tensor, dim, index, source = given["self"], given["dim"], _plain(named, given["index"]), given["src"]
    names, added = named.numbers_of(tensor).clone(), named.numbers_of(source)
    for k in range(index.shape[dim]):  # one slice at a time, in which no place comes twice
        place = index.narrow(dim, k, 1)
        part = added.narrow(dim, k, 1)[tuple(slice(0, size) for size in place.shape)]
        total = named.each(lambda x, y: named.algebra.apply("add", x, y), names.gather(dim, place), part)
        names = names.scatter(dim, place, total)
    return _finished(named, func, args, kwargs, names)


def _index_add(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    given = dict(zip(("self", "dim", "index", "source"), args, strict=False)) | kwargs
    if given.get("alpha", 1) != 1:
        raise OutOfReach("it uses index_add with alpha on laws")
    tensor, dim, index = given["self"], given["dim"], _plain(named, given["index"])
    names, added = named.numbers_of(tensor).clone(), named.numbers_of(given["source"])
    for k, place in enumerate(index.tolist()):
        here = names.select(dim, place)
        here.copy_(named.each(lambda x, y: named.algebra.apply("add", x, y), here.clone(), added.select(dim, k)))
    return _finished(named, func, args, kwargs, names)


def _plain(named: Named, index: Tensor) -> Tensor:
    if named.has_names(index):
        raise OutOfReach("it takes the outcome of a test of laws for an index")
    return index


def _matmul(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    one, other = named.numbers_of(args[0]), named.numbers_of(args[1])
    vector = other.ndim == 1
    other = other[:, None] if vector else other
    left, right = torch.broadcast_tensors(one[..., :, None], other[..., None, :, :] if one.ndim > 1 else other)
    products = named.each(lambda x, y: named.algebra.apply("mul", x, y), left, right)
    total = torch.full_like(products.select(-2, 0), ZERO)
    for part in products.unbind(-2):
        total = named.each(lambda x, y: named.algebra.apply("add", x, y), total, part)
    return _finished(named, func, args, kwargs, total.squeeze(-1) if vector else total)


def _compared(order: str) -> Handler:
    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        one, other = (*args, *kwargs.values())
        a, b = torch.broadcast_tensors(named.numbers_of(one), named.numbers_of(other))

        def asked(x: int, y: int) -> int:
            outcome, assumed = named.algebra.compare(order, x, y)  # type: ignore[arg-type]
            return 2 * named.number(assumed) + outcome

        found = named.each(asked, a, b)
        return named.tested(found % 2 == 1, found // 2)

    return handler


def _joined(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """Logic: what came of several tests is as it is while all of them are."""
    result = func(*args, **kwargs)
    if result.dtype != torch.bool or _in_place(func):
        raise OutOfReach(f"it uses {_name(func)} on laws")
    parts = [part for part in args if isinstance(part, Tensor)]
    if any(part.dtype != torch.bool for part in parts):
        raise OutOfReach(f"it uses {_name(func)} on laws")
    tests = named.tests(parts[0]).expand(result.shape)
    if len(parts) == 1:
        return named.tested(result, tests)
    return named.tested(result, named.each(lambda x, y: _united(named, x, y), tests, named.tests(parts[1]).expand(
        result.shape)))  # fmt: skip


def _united(named: Named, one: int, other: int) -> int:
    if one == 0 or other == 0 or one == other:
        # Beside what is certain: but that may decide alone, and so this test no longer does.
        return named.number(frozenset(Assumption(x.number, True) for x in named.assumptions(one or other)))
    several = named.assumptions(one) | named.assumptions(other)
    return named.number(frozenset(Assumption(x.number, True) for x in several))


def _reduced(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """any, all."""
    result = func(*args, **kwargs)
    if args[0].dtype != torch.bool:
        raise OutOfReach(f"it uses {_name(func)} on laws")
    dim = args[1] if len(args) > 1 else kwargs.get("dim")
    tests = named.tests(args[0])
    axes = range(tests.ndim) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    for axis in sorted((axis % tests.ndim for axis in axes), reverse=True):
        found = torch.zeros_like(tests.select(axis, 0))
        for part in tests.unbind(axis):
            found = named.each(lambda x, y: _united(named, x, y), found, part)
        tests = found
    return named.tested(result, tests.reshape(result.shape))


_OWNERS = (Tensor, torch, torch.nn.functional, torch._C._nn)


def _functions(names: str) -> set[Any]:
    return {getattr(owner, name) for owner in _OWNERS for name in names.split() if hasattr(owner, name)}


_INDEX_PUT = _functions("index_put index_put_")
_LIKE = _functions("expand_as view_as to type_as")
_UNFILLED = {torch.empty_like: torch.zeros_like, Tensor.new_empty: Tensor.new_zeros}
_CONVERTED = _functions("double to type_as cpu")
_HANDLERS: dict[Any, Handler] = {}
for _names, _handler in (
    (_SHAPES, _as_it_is),
    (_FRESH, _fresh),
    (_MOVED, _moved),
    (_WRITTEN, _written),
    ("__setitem__", _set_item),
    ("scatter scatter_", _filled(3)),
    ("index_fill index_fill_", _filled(3)),
    ("fill_", _filled(1)),
    ("where", _where),
    ("masked_fill", _masked_fill),
    ("add add_ __add__ __iadd__ __radd__", _arithmetic("add")),
    ("sub sub_ subtract __sub__ __isub__", _arithmetic("sub")),
    ("rsub __rsub__", _arithmetic("sub", swapped=True)),
    ("mul mul_ multiply __mul__ __imul__ __rmul__", _arithmetic("mul")),
    ("div div_ divide true_divide __truediv__ __itruediv__", _arithmetic("div")),
    ("__rtruediv__ __rdiv__", _arithmetic("div", swapped=True)),
    ("minimum", _arithmetic("minimum")),
    ("maximum", _arithmetic("maximum")),
    ("neg __neg__ negative", _negative),
    ("relu relu_", _single("positive_part")),
    ("abs __abs__ absolute", _single("absolute")),
    ("pow __pow__ square", _power),
    ("clamp clamp_ clip", _clamp(1, 2)),
    ("clamp_min clamp_min_", _clamp(1, None)),
    ("clamp_max clamp_max_", _clamp(None, 1)),
    ("sum", _folded("add", running=False)),
    ("mean", _folded("add", running=False, mean=True)),
    ("prod", _folded("mul", running=False)),
    ("cumsum", _folded("add", running=True)),
    ("cumprod", _folded("mul", running=True)),
    ("scatter_add scatter_add_", _scatter_add),
    ("index_add index_add_", _index_add),
    ("matmul __matmul__ bmm mm mv", _matmul),
    (
        "logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor "
        "__and__ __or__ __invert__ __xor__ __rand__ __ror__ __rxor__",
        _joined,
    ),  # fmt: skip
    ("any all", _reduced),
):
    _HANDLERS |= dict.fromkeys(_functions(_names), _handler)
for _spelling, _order in _ORDERS.items():
    _HANDLERS |= dict.fromkeys(_functions(f"{_spelling} __{_spelling}__"), _compared(_order))
