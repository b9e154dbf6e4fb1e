"""Whether a loop guides by itself: whether it asks a model for the scale of guidance."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from specverify.errors import ContractError

UNGUIDED = "guidance: the loop does not ask for model.guidance, so that guided toys were handed to it as one law"
REFUSED = "guidance: the loop raises {} where model.guidance is {:g}, so that guided toys were handed to it as one law"
LOOKS = 8
"""Calls in which it is looked at whether a loop does."""
ANOTHER = 2.5
"""A scale that a loop without guidance may refuse."""


def unguided(loop: Callable[[Any, Tensor], Any], model: Any, prompts: list[list[int]]) -> str:
    """Why a loop does not guide, seen in some calls without guidance and one with it; empty if it may guide.

    It does not ask for the scale of guidance, or it asks only to refuse another than 1. One that fails anyway may.
    """
    asked: list[Any] = []

    def call(seed: int, scale: float) -> None:
        one = model.anew()
        watch(one, asked.append, scale)
        torch.default_generator.manual_seed(seed)
        loop(one, torch.tensor(prompts))

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            for seed in range(LOOKS):
                call(seed, 1.0)
        except Exception:
            return ""
        if not asked:
            return UNGUIDED
        try:
            call(0, ANOTHER)
        except (AssertionError, NotImplementedError, ValueError) as error:
            return REFUSED.format(f"{type(error).__name__}({str(error)[:100]!r})", ANOTHER)
        except Exception:
            return ""
    return ""


def watch(model: Any, told: Callable[[Any], None], scale: float = 1.0) -> None:
    """Let somebody know where a model is asked for its scale of guidance, which is this."""
    kind: Any = type(model)
    model.__class__ = _watched(kind, told, scale)


@functools.lru_cache(maxsize=16)
def _watched(kind: type, told: Callable[[Any], None], scale: float) -> type:
    def guidance(model: Any) -> float:
        told(model)
        return scale

    return type(kind.__name__, (kind,), {"guidance": property(guidance)})


def late(model: Any) -> None:
    """Raise ContractError: a loop that seemed not to guide does."""
    raise ContractError(
        f"the loop asks for model.guidance, and did not in its first {LOOKS} calls: say loop_sampler(..., guided=True) "
        "if it guides, and guided=False if not"
    )
