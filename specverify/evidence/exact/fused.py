"""Torch functions that do several things at once: carried out on names as the functions that make the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from specverify.evidence.exact.computing import finished
from specverify.evidence.exact.moving import Handler, any_named
from specverify.evidence.exact.numbers import OutOfReach

if TYPE_CHECKING:
    from specverify.evidence.exact.tensors import Named


class _Within(TorchFunctionMode):
    """In the place of `Named` while one of its functions is carried out as others are."""

    def __init__(self, named: Named, carry_out: Handler) -> None:
        super().__init__()
        self.named, self.carry_out = named, carry_out

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any_named(self.named, (args, kwargs)):
            return self.carry_out(self.named, func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


def composed(formula: Callable[..., Tensor], carry_out: Handler) -> Handler:
    """A function with the arguments of a formula, of which the result has the same names.

    Args:
        formula: what it comes to, in other functions of torch.
        carry_out: does these.
    """

    def handler(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
        with _Within(named, carry_out):
            same = formula(*args, **kwargs)
        return finished(named, func, args, kwargs, named.names(same))

    return handler


def _addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Any:
    return input + value * (tensor1 * tensor2)


def _addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Any:
    return input + value * tensor1 / tensor2


def _lerp(input: Any, end: Any, weight: Any) -> Any:
    return input + weight * (end - input)


def _matrices(input: Any, one: Any, other: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    return beta * input + alpha * (one @ other)


def _dot(input: Any, tensor: Any) -> Any:
    return (input * tensor).sum()


def _outer(input: Any, vec2: Any) -> Any:
    return input[:, None] * vec2


def _reciprocal(input: Any) -> Any:
    return 1 / input


def _einsum(equation: Any, *operands: Any) -> Any:
    """Products of numbers at equal letters, summed over those that are not asked for."""
    if not isinstance(equation, str) or "." in equation:
        raise OutOfReach("it uses einsum on laws without a letter for each axis")
    given, arrow, asked = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    if any(len(set(term)) < len(term) for term in terms):
        raise OutOfReach("it takes diagonals of laws by einsum")
    once = sorted(letter for letter in set(given) - {","} if given.count(letter) == 1)
    asked = asked if arrow else "".join(once)
    letters = asked + "".join(sorted(set(given) - {","} - set(asked)))
    product = None
    for term, part in zip(terms, operands, strict=True):
        here = [letter for letter in letters if letter in term]
        part = part.permute([term.index(letter) for letter in here])
        part = part[tuple(slice(None) if letter in here else None for letter in letters)]
        product = part if product is None else product * part
    summed = tuple(range(len(asked), len(letters)))
    return product.sum(summed) if summed else product  # type: ignore[union-attr]


FORMULAS: dict[str, Callable[..., Tensor]] = {
    "addcmul addcmul_": _addcmul,
    "addcdiv addcdiv_": _addcdiv,
    "lerp lerp_": _lerp,
    "addmm addmv baddbmm": _matrices,
    "dot": _dot,
    "outer ger": _outer,
    "reciprocal reciprocal_": _reciprocal,
    "einsum": _einsum,
}
