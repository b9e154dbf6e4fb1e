"""Models whose own computing is not followed where a black box is: they draw nothing, and it would take long.

A model's laws are asked for in every world. Of what goes in, tensors that are plain are known in that world; where one
stands for a number that is not, or is no tensor of torch's own, the model is followed as all else.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from specverify import tree
from specverify.model import Model
from specverify.subjects.sampler_world import World


def unwatched(model: Model) -> Model:
    """The same model, of the same type, in which nothing is followed."""
    quick = copy.copy(model)
    for name in ("start", "laws", "advance"):
        object.__setattr__(quick, name, functools.partial(_apart, getattr(model, name)))
    return quick


def _apart(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not all(map(_plain, (*args, *kwargs.values()))):
        return method(*args, **kwargs)
    with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
        return method(*args, **kwargs)


def _plain(given: Any) -> bool:
    if type(given) is int:
        return True
    # Of memory that was filled with random numbers nothing is known, by whatever view.
    filled = set[int]() if World.current is None else World.current.storages
    known = type(given) is Tensor or dataclasses.is_dataclass(given)
    return known and all(
        type(one) is Tensor and (not filled or one.untyped_storage()._cdata not in filled)
        for one in tree.tensors(given)
    )
