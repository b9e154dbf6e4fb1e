"""For those who import from here: settings with the draft model before the initial drafts, and the one catalogue."""

from __future__ import annotations

from specverify.declared import Initial
from specverify.decoders import registry
from specverify.decoders.judging import Coupling
from specverify.decoders.registry import build, entry
from specverify.laws import ContinuousModel

__all__ = ["Settings", "build", "entry"]


def Settings(
    window: int = 4,
    draft_model: ContinuousModel | None = None,
    initial: Initial = "left-law",
    coupling: Coupling | None = None,
    prefill: float = 0.05,
) -> registry.Settings:
    """Settings of `specverify.decoders.registry`."""
    return registry.Settings(window, initial, draft_model, coupling, prefill)
