"""Decoders of continuous tokens. Read `speculative.py`, then `coupling.py` and `jacobi.py`."""

from specverify.decoders.continuous.autoregressive import Autoregressive
from specverify.decoders.continuous.coupling import (
    Coupled,
    Coupling,
    LastRule,
    PathRule,
    Reflection,
    StepRule,
    TokenRule,
)
from specverify.decoders.continuous.cspd import Published, Released
from specverify.decoders.continuous.draft_model import DraftModel
from specverify.decoders.continuous.jacobi import Jacobi
from specverify.decoders.continuous.speculative import Draft, Drafting, Speculative

__all__ = [
    "Autoregressive",
    "Coupled",
    "Coupling",
    "Draft",
    "DraftModel",
    "Drafting",
    "Jacobi",
    "LastRule",
    "PathRule",
    "Published",
    "Reflection",
    "Released",
    "Speculative",
    "StepRule",
    "TokenRule",
]
