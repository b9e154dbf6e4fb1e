"""What a program makes of a uniform number by arithmetic with constants: a monotone function, step by step.

    affine  v -> a v + b        log, exp        clamp  v -> min(max(v, a), b)

A question about what was made is one about the number itself (`pull`). Where one of several made numbers is the
largest, its index has a known law if it is a race of exponential numbers (`race`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

NEGLIGIBLE = 1e-15
"""Chances below this come of rounding, or of guards against coins of exactly 0: where p and q are one law, their ratio
may be less than 1 by so much."""


@dataclass(frozen=True)
class Step:
    """One step, with a constant for each number.

    Attributes:
        kind: "affine", "log", "exp" or "clamp".
        a: as above, Float64 of the numbers' shape; of "log" and "exp" without meaning.
        b: the same.
    """

    kind: str
    a: Tensor
    b: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> Step:
        """The same step of numbers that are arranged otherwise."""
        return Step(self.kind, function(self.a), function(self.b))


Form = tuple[Step, ...]


class Unclear(ValueError):
    """No monotone function: the message says why."""


def affine(form: Form, a: Tensor, b: Tensor) -> Form:
    """What is multiplied and moved, by constants of the numbers' shape."""
    if bool(((a == 1) & (b == 0)).all()):
        return form
    last = form[-1].kind if form else ""
    if last == "affine":
        before = form[-1]
        a, b, form = a * before.a, torch.where(before.b == 0, 0, a * before.b) + b, form[:-1]
    elif last == "exp" and bool((b == 0).all()) and bool((a >= 0).all()):
        return _logs(affine(form[:-1], torch.ones_like(a), a.log()), "exp")
    if bool(a.isnan().any() | b.isnan().any()):
        raise Unclear("0 times infinity, or infinity less infinity")
    return (*form, Step("affine", a, b))


def log(form: Form, low: Tensor, high: Tensor) -> Form:
    """The logarithm.

    Args:
        form: of numbers between `low` and `high`.
    """
    if bool((span(form, low, high)[0] < 0).any()):
        raise Unclear("the logarithm, a power or a quotient of what may be negative")
    return _logs(form, "log", low)


def exp(form: Form, low: Tensor) -> Form:
    """The exponential function."""
    return _logs(form, "exp", low)


def power(form: Form, exponent: Tensor, low: Tensor, high: Tensor) -> Form:
    """A power of what is positive; -1 for a reciprocal."""
    return exp(affine(log(form, low, high), exponent, torch.zeros_like(exponent)), low)


def clamp(form: Form, least: Tensor, most: Tensor, low: Tensor, high: Tensor) -> Form:
    """What is kept within bounds; nothing is done where that is no more than a guard against rounding."""
    below, flip = pull(form, least, torch.ones_like(least, dtype=torch.bool))
    above, flop = pull(form, most, torch.zeros_like(least, dtype=torch.bool))
    size = high - low
    cut = [
        torch.where(back, high - bound.clamp(low, high), bound.clamp(low, high) - low)
        for bound, back in ((below, flip), (above, ~flop))
    ]
    if all(bool((part <= NEGLIGIBLE * size).all()) for part in cut):
        return form
    return (*form, Step("clamp", least, most))


def guarded(form: Form, by: Tensor) -> bool:
    """Whether adding so little is a guard against 0 alone: it moves no chance by more than `NEGLIGIBLE`."""
    small = bool((by.abs() <= NEGLIGIBLE).all())
    plain = not form or (len(form) == 2 and form[0].kind == "log" and bool((form[1].a == -1).all()))
    return small and plain


def value(form: Form, u: Tensor) -> Tensor:
    """What it makes of numbers."""
    for step in form:
        if step.kind == "affine":
            u = torch.where(step.a == 0, 0, step.a * u) + step.b
        elif step.kind == "clamp":
            u = u.clamp(step.a, step.b)
        else:
            u = u.log() if step.kind == "log" else u.exp()
    return u


def span(form: Form, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Between what it lies."""
    ends = torch.stack([value(form, low), value(form, high)]).nan_to_num(0.0, torch.inf, -torch.inf)
    return ends.amin(0), ends.amax(0)


def pull(form: Form, bound: Tensor, strict: Tensor) -> tuple[Tensor, Tensor]:
    """For the question whether the outcome is below a bound (`strict`), or at most there, the bound of the number.

    Returns:
        The number's bound, and where the answer is the opposite of "the number is below it".
    """
    flip = torch.zeros_like(strict)
    for step in reversed(form):
        if step.kind == "affine":
            fixed = torch.where(strict, step.b < bound, step.b <= bound)
            bound = torch.where(step.a == 0, torch.where(fixed, torch.inf, -torch.inf), (bound - step.b) / step.a)
            back = step.a < 0
            flip, strict = flip ^ back, strict ^ back
        elif step.kind == "log":
            bound = bound.exp()
        elif step.kind == "exp":
            bound = torch.where(bound > 0, bound.clamp(min=0).log(), -torch.inf)
        else:
            never = torch.where(strict, bound <= step.a, bound < step.a)
            always = torch.where(strict, bound > step.b, bound >= step.b)
            bound = torch.where(never, -torch.inf, torch.where(always, torch.inf, bound))
    if bool(bound.isnan().any()):
        raise Unclear("a comparison with infinity")
    return bound, flip


def race(form: Form, dim: int, largest: bool, ones: Tensor) -> Tensor | None:
    """Weights of the index of the largest, or the smallest, of independent numbers along `dim`, as many as `ones`.

    Exponential numbers E, -log u, are divided by weights, or weights by them, or logarithms of weights less log E
    (Gumbel's). Whatever else is done to all alike, and is monotone, changes nothing.

    Returns:
        Float64 of the numbers' shape, not normalised; None for another law.
    """
    steps = list(form)
    if steps and steps[0].kind == "affine" and bool((steps[0].a == -1).all()) and bool((steps[0].b == 1).all()):
        steps.pop(0)  # 1 - u is as u
    while steps and steps[-1].kind != "clamp":
        step = steps[-1]
        if step.kind == "affine":
            if not _alike(step.a, dim) or not (bool((step.a > 0).all()) or bool((step.a < 0).all())):
                break
            if not _alike(step.b, dim):
                if len(steps) < 4 or [one.kind for one in steps[-4:-1]] != ["log", "affine", "log"]:
                    return None
                inner = steps[-3]  # log(a E) + b / c is log(a exp(b / c) E)
                steps[-3:] = [Step("affine", inner.a * (step.b / step.a).exp(), inner.b)]
            elif len(steps) == 2 and steps[0].kind == "log":
                break
            else:
                steps.pop()
            largest ^= bool((step.a < 0).all())
        elif len(steps) > 1:
            steps.pop()
        else:
            break
    kinds = [step.kind for step in steps]
    if kinds in ([], ["log"]):
        return ones
    if kinds != ["log", "affine"] or bool((steps[1].b != 0).any()):
        return None
    rates = steps[1].a if largest else -steps[1].a
    if not bool((rates > 0).all()) and not _alike(rates, dim):
        return None
    return None if bool((rates == 0).any() | rates.isnan().any()) else 1 / rates.abs()


def _alike(a: Tensor, dim: int) -> bool:
    return a.shape[dim] == 0 or bool((a == a.narrow(dim, 0, 1)).all())


def _logs(form: Form, kind: str, like: Tensor | None = None) -> Form:
    if form and {form[-1].kind, kind} == {"log", "exp"}:
        return form[:-1]
    nothing = torch.zeros_like(form[-1].a if like is None else like)
    return (*form, Step(kind, nothing, nothing))
