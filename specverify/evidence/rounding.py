"""How far rounding may carry a law, by the precision that a decoder computes in.

A decoder that takes ratios, residuals or a softmax in float32 is right up to some units in the last place of every
next-token law, so the total variation that it may leave grows with the length of the sequence. Below that *floor* no
enumeration can tell rounding from a defect, and no verdict is PROVED; above it everything is a defect.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from specverify import tree

UNITS = 2.0
"""Machine epsilons of total variation that a position may add: a ratio, a residual and its sum, each rounded once."""
_FINEST_FIRST = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
PRECISIONS = {str(dtype).removeprefix("torch."): dtype for dtype in _FINEST_FIRST}
"""The floating types by their names."""


def floor(precision: torch.dtype, length: int) -> float:
    """The total variation of sequences that rounding in `precision` may leave; 0 for float64, whose own is below it."""
    return 0.0 if precision == torch.float64 else UNITS * torch.finfo(precision).eps * length


def coarser(*precisions: torch.dtype) -> torch.dtype:
    """The coarsest of some floating types."""
    return max(precisions, key=_FINEST_FIRST.index)


class Precisions(TorchDispatchMode):
    """Writes down the floating types of all tensors that are made while it is entered.

    Attributes:
        seen: the types. A type that is seen need not have touched the law: masks and statistics have one, too.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry out the call, and look at what it made."""
        made = function(*args, **(kwargs or {}))
        for value in tree.tensors(made):
            if isinstance(value, Tensor) and value.dtype in _FINEST_FIRST:
                self.seen.add(value.dtype)
        return made


# torch wraps it in what keeps its compiler away, and imports the compiler for that: a second that nothing here needs.
Precisions.__torch_dispatch__ = inspect.unwrap(Precisions.__torch_dispatch__)  # type: ignore[method-assign]
