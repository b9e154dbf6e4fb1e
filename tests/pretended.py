"""A device that is none: values lie on the CPU, but what a GPU would refuse raises.

Tensors are made on it, moved to it and back as to any other; where they meet tensors of the CPU, or a generator of it,
MixedDevices is raised, as a GPU would. It has no kernels, streams or memory of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "meta"
"""Torch knows this device, and asks for no library of it."""
_MOVES = {"aten::copy_", "aten::_to_copy"}
_ITEMS = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)
_INDEXED = {"aten::index.Tensor", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"}


class MixedDevices(RuntimeError):
    """Tensors or a generator of two devices met."""


class Pretended(torch.Tensor):
    """A tensor of the device.

    Attributes:
        held: its values, on the CPU.
    """

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Pretended:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME),
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return carry_out(function, args, kwargs or {})

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, **unused):
        raise TypeError("a tensor of the device has no array; move it to the CPU")

    def __array__(self, *unused):
        return self.numpy()


class Generator(torch.Generator):
    """A generator of the device, or of the CPU."""

    there = False

    def __new__(cls, device="cpu"):
        made = super().__new__(cls)
        made.there = torch.device(device).type == NAME
        return made

    @property
    def device(self):
        return torch.device(NAME if self.there else "cpu")


class Device(TorchDispatchMode):
    """While it is entered, there is the device.

    Attributes:
        moves: tensors that were copied to it or from it, for which a GPU waits, and which no graph can hold.
    """

    def __init__(self):
        super().__init__()
        self.moves = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = carry_out(function, args, kwargs or {})
        if function.name() in _MOVES:
            given = args[1] if function.name() == "aten::copy_" else args[0]
            self.moves += isinstance(given, Pretended) != isinstance(found, Pretended)
        return found


class Functions(TorchFunctionMode):
    """While it is entered, what operations cannot tell is seen: numbers made a tensor, and the generator of a draw."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        given = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and (device := given.pop("device", None)) is not None:
            return function(*args, **given).to(device)
        if function in _ITEMS and isinstance(args[0], Pretended):
            place = args[1] if isinstance(args[1], tuple) else (args[1],)
            listed = (torch.tensor(one).to(NAME) if isinstance(one, list | range) else one for one in place)
            args = (args[0], tuple(listed), *args[2:])
        found = function(*args, **given)
        generator = given.get("generator")
        if isinstance(generator, Generator) and found.device != generator.device:
            raise MixedDevices(f"{function.__name__}: a generator of {generator.device}, a tensor of {found.device}")
        return found


def carry_out(function: Any, args: Any, kwargs: Any) -> Any:
    """An operation on the values, refused where a GPU would refuse it."""
    parts = tree_flatten((args, kwargs))[0]
    here = [part for part in parts if isinstance(part, torch.Tensor) and not isinstance(part, Pretended)]
    there = [part for part in parts if isinstance(part, Pretended)]
    name = function.name()
    if any(part.device.type == NAME for part in here):
        raise AssertionError(f"{name}: a tensor was made of which this device knows nothing; see Functions")
    if there and name not in _MOVES:
        indices = {id(part) for part in tree_flatten(args[1])[0]} if name in _INDEXED else set()
        scalars = torch.Tag.pointwise in function.tags or name in _INDEXED
        for part in here:
            if id(part) not in indices and not (scalars and part.dim() == 0):
                raise MixedDevices(f"{name}: a tensor of the CPU, {tuple(part.shape)}, meets one of the device")
        if name in _INDEXED and not isinstance(args[0], Pretended):
            raise MixedDevices(f"{name}: a tensor of the CPU is indexed by one of the device")
    asked = kwargs.get("device")
    on = bool(there) if asked is None else torch.device(asked).type == NAME
    if asked is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    owners = {id(part.held): part for part in there}
    found = function(*tree_map(_held, args), **tree_map(_held, kwargs))
    if name == "aten::copy_":
        return args[0]

    def wrapped(part):
        if not isinstance(part, torch.Tensor) or not on:
            return part
        return owners.get(id(part)) if id(part) in owners else Pretended(part)

    return tree_map(wrapped, found)


def _held(part: Any) -> Any:
    return part.held if isinstance(part, Pretended) else part
