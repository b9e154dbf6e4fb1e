"""Torch functions that compute: number by number, by name, and what tests of numbers come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from specverify.evidence.exact.assumed import undetermined
from specverify.evidence.exact.choosing import Comparison, Decided, joined
from specverify.evidence.exact.moving import Handler, any_named, in_place, name_of, prepare, tensors_in
from specverify.evidence.exact.numbers import ONE, ZERO, Assumption, NeedsOrder, OutOfReach, Unsettled

if TYPE_CHECKING:
    from specverify.evidence.exact.tensors import Named

ROUNDED = 20 * torch.finfo(torch.float64).eps
"""What rounding may leave of a number that is 0."""


def arithmetic(operation: str, swapped: bool = False) -> Handler:
    """An operation of two numbers, with the arguments' places swapped where the function has them so."""

    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        rest = {key: value for key, value in kwargs.items() if key not in ("other", "exponent")}
        if any_named(named, rest) or any(value not in (None, 1) for value in rest.values()) or len(args) > 2:
            raise OutOfReach(f"it uses {name_of(func)} with {', '.join(kwargs)} on laws")
        one, other = list(args) + [kwargs[key] for key in ("other",) if key in kwargs]
        one, other = (other, one) if swapped else (one, other)
        if operation == "mul" and (masks := [part for part in (one, other) if named.has_tests(part)]):
            return finished(named, func, args, kwargs, _masked(named, masks[0], other if masks[0] is one else one))
        if operation == "sub" and named.has_tests(other) and _is_one(named, one) and not in_place(func):
            return named.tested(func(*args, **kwargs), named.opposite(other))
        names = named.pairwise(operation, one, other)
        if operation not in ("minimum", "maximum"):
            named.numbers.note_rounded(names.unique().tolist())
        return finished(named, func, args, kwargs, names)

    return handler


def _is_one(named: Named, part: Any) -> bool:
    """Whether it is the constant 1, and nothing that came of a law."""
    if isinstance(part, Tensor):
        return part.ndim == 0 and not named.has_names(part) and bool(part == 1)
    return part == 1  # type: ignore[no-any-return]


def _masked(named: Named, mask: Tensor, other: Any) -> Tensor:
    """Numbers times the outcomes of tests, which choose them, or 0: where they are finite however a test turns out."""
    if not (isinstance(other, Tensor) and other.dtype == torch.float64):
        raise OutOfReach("it computes with the outcome of a test of laws; choose with torch.where")
    mask, names = torch.broadcast_tensors(mask, named.names(other))
    tests, mask = named.tests(mask, undecided=True), mask.bool()
    if any(each.pole for name in names.unique().tolist() for each in named.numbers.assumed[name]):
        raise Unsettled("it multiplies numbers that come of a division by the outcome of a test of laws")
    return named.chosen(names.where(mask, ZERO), names.where(~mask, ZERO), tests)


def finished(named: Named, func: Any, args: Any, kwargs: Any, names: Tensor) -> Tensor:
    """The result of arithmetic, in place where the function is."""
    if not in_place(func):
        result = func(*args, **kwargs)
        # That of einsum is a view: of an argument, or of a tensor that nobody sees, which would hold its memory.
        given = {part.untyped_storage().data_ptr() for part in tensors_in((args, kwargs))}
        hidden = result._base is not None and result.untyped_storage().data_ptr() not in given
        return named.bind(result.clone() if hidden else result, names)
    prepare(named, args[0])
    names = names.clone()
    func(*args, **kwargs)
    named.names(args[0]).copy_(names)
    named.check(args[0], names)
    return args[0]  # type: ignore[no-any-return]


def negative(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """0 less a number; a difference is turned round."""

    def turned(name: int, _: int) -> int:
        numbers = named.numbers
        a, b = numbers.difference.get(name, [(name, ZERO)])[0]
        found = named.algebra.apply("sub", b, a)
        return numbers.assuming(found, numbers.assumed[found] | numbers.taken(name))

    names = named.names(args[0])
    return finished(named, func, args, kwargs, named.each(turned, names, torch.zeros_like(names)))


def single(method: str) -> Handler:
    """A method of `Algebra` that takes one name."""

    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        names = named.names(args[0])
        function = getattr(named.algebra, method)
        return finished(named, func, args, kwargs, named.each(lambda x, _: function(x), names, names * 0))

    return handler


def finite(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """nan_to_num: the same numbers, but what stands in the place of 0 / 0 is finite."""
    given = dict(zip(("input", "nan"), args, strict=False)) | kwargs
    if len(args) > 2 or not given.keys() <= {"input", "nan"}:
        raise OutOfReach(f"it uses {name_of(func)} with {', '.join(kwargs) or 'infinities'} on laws")
    numbers = named.numbers
    numbers.constant(given.get("nan") or 0.0)  # which must be finite

    def bounded(name: int, _: int) -> int:
        assumed = numbers.taken(name)
        return numbers.assuming(
            name, frozenset(Assumption(x.number, x.pole and not undetermined(numbers, name, x)) for x in assumed)
        )

    names = named.names(given["input"])
    return finished(named, func, args, kwargs, named.each(bounded, names, names * 0))


def normalized(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """torch.nn.functional.normalize by the sum: x / max(sum |x|, eps)."""
    given = dict(zip(("input", "p", "dim", "eps"), args, strict=False)) | kwargs
    if given.get("p", 2.0) != 1:
        raise OutOfReach("it uses normalize on laws by another norm than their sum; give p=1")
    names, dim = named.names(given["input"]), given.get("dim", 1)
    total = torch.full_like(names.select(dim, 0), ZERO)
    for part in names.unbind(dim):
        total = named.each(lambda x, y: named.algebra.apply("add", x, named.algebra.absolute(y)), total, part)
    least = named.numbers.constant(given.get("eps", 1e-12))
    total = named.each(lambda x, _: named.algebra.apply("maximum", x, least), total, total * 0).unsqueeze(dim)
    found = named.each(lambda x, y: named.algebra.apply("div", x, y), names, total.expand(names.shape))
    return named.bind(func(*args, **kwargs), found)


def power(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """Whole powers."""
    exponent = args[1] if len(args) > 1 else kwargs.get("exponent", 2)
    if isinstance(exponent, Tensor) or exponent != int(exponent) or not 0 <= exponent <= 8:
        raise OutOfReach(f"it takes laws to the power {exponent}")
    base = named.names(args[0])
    names = torch.full_like(base, ONE)
    for _ in range(int(exponent)):
        names = named.each(lambda x, y: named.algebra.apply("mul", x, y), names, base)
    return finished(named, func, args, kwargs, names)


def clamp(low: int | None, high: int | None) -> Handler:
    """Bounds by their place among the arguments."""

    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        least = args[low] if low is not None and len(args) > low else kwargs.get("min")
        most = args[high] if high is not None and len(args) > high else kwargs.get("max")
        names = named.names(args[0])
        if least is not None:
            bound = named.names(least).expand(names.shape)
            names = named.each(lambda x, y: named.algebra.apply("maximum", x, y), names, bound)
        if most is not None:
            bound = named.names(most).expand(names.shape)
            names = named.each(lambda x, y: named.algebra.apply("minimum", x, y), names, bound)
        return finished(named, func, args, kwargs, names)

    return handler


def folded(operation: str, running: bool, mean: bool = False) -> Handler:
    """Sums, products, and largest or smallest numbers along axes."""

    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        dims = args[1] if len(args) > 1 else kwargs.get("dim")
        keep = args[2] if len(args) > 2 and not running else kwargs.get("keepdim", False)
        names = named.names(args[0])
        axes = range(names.ndim) if dims is None else [dims] if isinstance(dims, int) else list(dims)
        start, count = {"add": ZERO, "mul": ONE}.get(operation), 1
        for axis in sorted((axis % max(names.ndim, 1) for axis in axes), reverse=True):
            count *= names.shape[axis] if names.ndim else 1
            parts = names.unbind(axis) if names.ndim else (names,)
            if start is None:  # of none torch finds no largest, either
                found, parts = [parts[0]], parts[1:]
            else:
                found = [torch.full_like(names.select(axis, 0), start) if parts else names.sum(axis) * 0 + start]
            for part in parts:
                found.append(named.each(lambda x, y: named.algebra.apply(operation, x, y), found[-1], part))
            names = torch.stack(found[1:], axis) if running else found[-1]
            if keep and not running:
                names = names.unsqueeze(axis)
        if mean:
            names = named.pairwise("div", *_as_numbers(named, names, count))
        return finished(named, func, args, kwargs, names)

    return handler


def _as_numbers(named: Named, names: Tensor, count: int) -> tuple[Tensor, float]:
    return named.bind(named.values(names).clone(), names), float(count)


def scatter_add(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """Numbers that are added at places."""
    given = dict(zip(("self", "dim", "index", "src"), args, strict=False)) | kwargs
    _check_settings(named, func, given["dim"])
    tensor, dim, index, source = given["self"], given["dim"], _plain(named, given["index"]), given["src"]
    names, added = named.names(tensor).clone(), named.names(source)
    for k in range(index.shape[dim]):  # one slice at a time, in which no place comes twice
        place = index.narrow(dim, k, 1)
        part = added.narrow(dim, k, 1)[tuple(slice(0, size) for size in place.shape)]
        total = named.each(lambda x, y: named.algebra.apply("add", x, y), names.gather(dim, place), part)
        names = names.scatter(dim, place, total)
    return finished(named, func, args, kwargs, names)


def index_add(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """The same, whole slices at a time."""
    given = dict(zip(("self", "dim", "index", "source"), args, strict=False)) | kwargs
    _check_settings(named, func, given["dim"], given.get("alpha"))
    if given.get("alpha", 1) != 1:
        raise OutOfReach("it uses index_add with alpha on laws")
    tensor, dim, index = given["self"], given["dim"], _plain(named, given["index"])
    names, added = named.names(tensor).clone(), named.names(given["source"])
    for k, place in enumerate(index.tolist()):
        here = names.select(dim, place)
        here.copy_(named.each(lambda x, y: named.algebra.apply("add", x, y), here.clone(), added.select(dim, k)))
    return finished(named, func, args, kwargs, names)


def _check_settings(named: Named, func: Any, *settings: Any) -> None:
    if any_named(named, settings):
        raise OutOfReach(f"it sets {name_of(func)} by numbers of laws, or by outcomes of tests of laws")


def _plain(named: Named, index: Tensor) -> Tensor:
    if named.has_names(index):
        raise OutOfReach("it takes the outcome of a test of laws for an index")
    return index


def matmul(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """Products of matrices."""
    one, other = named.names(args[0]), named.names(args[1])
    vector = other.ndim == 1
    other = other[:, None] if vector else other
    left, right = torch.broadcast_tensors(one[..., :, None], other[..., None, :, :] if one.ndim > 1 else other)
    products = named.each(lambda x, y: named.algebra.apply("mul", x, y), left, right)
    total = torch.full_like(products.select(-2, 0), ZERO)
    for part in products.unbind(-2):
        total = named.each(lambda x, y: named.algebra.apply("add", x, y), total, part)
    return finished(named, func, args, kwargs, total.squeeze(-1) if vector else total)


def compared(order: str) -> Handler:
    """Comparisons: their outcomes, and what they assume."""

    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        if not kwargs.keys() <= {"other"} or len(args) + len(kwargs) != 2:
            raise OutOfReach(f"it uses {name_of(func)} with {', '.join(kwargs)} on laws")
        pair = [named.names(part) for part in (*args, *kwargs.values())]
        a, b = torch.broadcast_tensors(*pair)

        def asked(x: int, y: int) -> int:
            try:
                outcome, assumed = named.algebra.compare(order, x, y)  # type: ignore[arg-type]
            except NeedsOrder:
                comparison = Comparison(order, x, y)  # type: ignore[arg-type]
                return 2 * named.undecided(comparison) + comparison.outcome(named.algebra)
            return 2 * named.number(assumed) + outcome

        found = named.each(asked, a, b)
        _check_rounded(named, (*args, *kwargs.values()), (a, b))
        return named.tested(found % 2 == 1, found // 2)

    return handler


def _check_rounded(named: Named, parts: Any, names: tuple[Tensor, Tensor]) -> None:
    """Raise OutOfReach for numbers that are equal for all laws, and are not after rounding: either may come out.

    So it is for a minimum that was computed, as p - (p - q)+ is, and what it is one of. Laws at the real point sum to 1
    but for rounding that is writ large (`proof.BLUR`). Where both are 0 nothing but that is refused: whether something
    is left, a decoder has to ask.
    """
    one, other = torch.broadcast_tensors(*(torch.as_tensor(part, dtype=torch.float64) for part in parts))
    residue = named.numbers.residue

    def alike(x: int, y: int) -> int:
        if residue[x] == residue[y]:
            return 2 if residue[x] else 1
        return 3 * named.numbers.rounded_beside(x, y)

    room, gap = named.each(alike, *names), (one - other).abs()
    if bool(((room == 3) | ((room == 2) & (gap > 0)) | ((room == 1) & (gap > ROUNDED))).any()):
        raise OutOfReach(
            "it compares numbers that are equal for all laws, and are not after rounding, such as the sum of a law and "
            "1: what comes out is chance"
        )


def logic(kind: Literal["not", "and", "or", "xor"]) -> Handler:
    """Logic: what came of several tests is as it is while all of them are."""

    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        result = func(*args, **kwargs)
        if result.dtype != torch.bool or in_place(func) or kwargs:
            raise OutOfReach(f"it uses {name_of(func)} on laws")
        parts = [part for part in args if isinstance(part, Tensor)]
        if any(part.dtype != torch.bool for part in parts):
            raise OutOfReach(f"it uses {name_of(func)} on laws")
        if kind == "not":
            return named.tested(result, named.opposite(parts[0]))
        columns = []
        for part in args:
            mask = part if isinstance(part, Tensor) else torch.tensor(bool(part))
            columns += [named.tests(mask, undecided=True).expand(result.shape), mask.expand(result.shape).long()]

        def both(one: int, first: int, other: int, second: int) -> int:
            if min(one, other) >= 0 and (kind == "xor" or (one and other)):
                return _united(named, one, other)
            if kind == "xor":
                raise NeedsOrder("it compares numbers whose order depends on the laws")
            test = joined(named.test(one, bool(first)), named.test(other, bool(second)), kind == "and")
            return named.number(test.assumed) if isinstance(test, Decided) else named.undecided(test)

        return named.tested(result, named.every(both, *columns))

    return handler


def _united(named: Named, one: int, other: int) -> int:
    if one == 0 or other == 0 or one == other:
        # Beside what is certain: but that may decide alone, and so this test no longer does.
        return named.number(frozenset(Assumption(x.number, True) for x in named.assumptions(one or other)))
    several = named.assumptions(one) | named.assumptions(other)
    return named.number(frozenset(Assumption(x.number, True) for x in several))


def reduced(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """any, all."""
    result = func(*args, **kwargs)
    if args[0].dtype != torch.bool:
        raise OutOfReach(f"it uses {name_of(func)} on laws")
    dim = args[1] if len(args) > 1 else kwargs.get("dim")
    tests = named.tests(args[0])
    axes = range(tests.ndim) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    for axis in sorted((axis % tests.ndim for axis in axes), reverse=True):
        found = torch.zeros_like(tests.select(axis, 0))
        for part in tests.unbind(axis):
            found = named.each(lambda x, y: _united(named, x, y), found, part)
        tests = found
    return named.tested(result, tests.reshape(result.shape))
