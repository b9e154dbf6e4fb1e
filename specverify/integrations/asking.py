"""Whether a loop guides by itself: whether it asks a model for the scale of guidance."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from specverify.errors import ContractError

UNGUIDED = "guidance: the loop does not ask for model.guidance, so that guided toys were handed to it as one law"
LOOKS = 8
"""Calls in which it is looked at whether a loop does."""


def asks(loop: Callable[[Any, Tensor], Any], model: Any, prompts: list[list[int]]) -> bool:
    """Whether a loop asks for the scale of guidance, by some calls without any; one that fails there may."""
    asked: list[Any] = []
    with contextlib.suppress(Exception), torch.random.fork_rng(devices=[]), torch.no_grad():
        for seed in range(LOOKS):
            one = model.anew()
            watch(one, asked.append)
            torch.default_generator.manual_seed(seed)
            loop(one, torch.tensor(prompts))
        return bool(asked)
    return True


def watch(model: Any, told: Callable[[Any], None]) -> None:
    """Let somebody know where a model is asked for its scale of guidance, which is 1."""
    kind: Any = type(model)
    model.__class__ = _watched(kind, told)


@functools.lru_cache(maxsize=16)
def _watched(kind: type, told: Callable[[Any], None]) -> type:
    def guidance(model: Any) -> float:
        told(model)
        return 1.0

    return type(kind.__name__, (kind,), {"guidance": property(guidance)})


def late(model: Any) -> None:
    """Raise ContractError: a loop that seemed not to guide does."""
    raise ContractError(
        f"the loop asks for model.guidance, and did not in its first {LOOKS} calls: say loop_sampler(..., guided=True) "
        "if it guides, and guided=False if not"
    )
