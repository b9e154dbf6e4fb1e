"""What a decoder must not do on unknown laws, even where no law is at hand: draw by itself, or hand out memory."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from specverify.decoders.protocol import Branch
from specverify.errors import ContractError
from specverify.evidence.exact.numbers import OutOfReach
from specverify.noise import Noise

_RANDOM = (
    "rand randn randint randperm rand_like randn_like randint_like normal normal_ multinomial bernoulli bernoulli_ "
    "poisson binomial uniform_ exponential_ geometric_ cauchy_ log_normal_ random_ dropout gumbel_softmax"
)
NO_NUMBERS = "it takes noise for numbers, or numbers for noise; races come from draws.race"
_SHOWING = "__repr__ __format__ __reduce_ex__ __reduce__"
_MEMORY = "data_ptr untyped_storage storage _typed_storage __dlpack__ __cuda_array_interface__"

_PLAIN = {
    *(Tensor, Noise, torch.nn.Parameter, torch.Generator, torch.Size, torch.dtype, torch.device, torch.layout),
    *(torch.memory_format, bool, int, float, complex, str, type(None), type(Ellipsis), range, Branch),
    *(np.ndarray, np.bool_, np.int32, np.int64, np.float32, np.float64),
}
"""Types of arguments that have no code of a decoder's; containers of them beside these."""


def refuse(func: Any, arguments: Any) -> None:
    """Raise OutOfReach for a function that draws random numbers, or shows where a tensor's floating numbers lie."""
    name = str(getattr(func, "__name__", ""))
    if name in _RANDOM.split():
        raise OutOfReach(f"it draws random numbers by torch.{name}, instead of its draws")
    if name in _MEMORY.split():
        given = arguments[0][0] if arguments[0] else None
        if isinstance(given, Tensor) and given.is_floating_point():
            raise OutOfReach(f"it looks at the memory of numbers, by {name}")


def numbers(tensor: Tensor) -> None:
    """Raise OutOfReach for noise where numbers are asked for."""
    if isinstance(tensor, Noise):
        raise OutOfReach(NO_NUMBERS)


def opaque(func: Any, with_laws: bool, args: Any, kwargs: Any) -> Any:
    """Carry out a function of noise.

    Raises:
        OutOfReach: it shows the noise, computes with it, or has laws or tests of laws beside it.
    """
    name = str(getattr(func, "__name__", func))
    if with_laws:
        raise OutOfReach(f"it uses {name.strip('_')} on noise and laws together, or chooses noise by a test of laws")
    if name in _SHOWING.split():
        raise OutOfReach(f"it looks at noise, by {name.strip('_')}")
    try:
        return Noise.__torch_function__(func, (Noise,), args, kwargs)  # also where subclasses are switched off
    except Exception as error:  # which a decoder may catch
        other = f"it uses {name.strip('_')} on noise, which raised {type(error).__name__}"
        raise OutOfReach(str(error) if isinstance(error, ContractError) else other) from None


def place(tensor: Tensor) -> int:
    """Where a tensor's memory lies."""
    if not isinstance(tensor, Noise):
        return tensor.untyped_storage().data_ptr()
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.untyped_storage().data_ptr()


def plain(arguments: Any) -> None:
    """Raise OutOfReach for arguments whose code would run unseen inside of a function of torch."""
    kind = type(arguments)
    if kind is dict:
        arguments = [*arguments, *arguments.values()]
    elif kind is slice:
        arguments = (arguments.start, arguments.stop, arguments.step)
    elif kind is not tuple and kind is not list:
        if kind not in _PLAIN:
            raise OutOfReach(f"it gives a {kind.__qualname__} to torch, whose code nobody sees")
        return
    for part in arguments:
        plain(part)


@contextmanager
def own_draws() -> Iterator[None]:
    """Raise OutOfReach if random numbers were drawn from what all share: torch's, numpy's or Python's generator."""
    before = _states()
    yield
    for one, other, name in zip(before, _states(), ("torch", "numpy", "Python"), strict=True):
        if one != other:
            raise OutOfReach(f"it draws random numbers of {name}'s own, instead of its draws")


def _states() -> tuple[object, ...]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().numpy().tobytes(), (kind, np.asarray(keys).tobytes(), *rest), random.getstate()
