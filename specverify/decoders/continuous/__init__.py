"""Decoders of continuous tokens: what they judge drafts by (`coupling.py`), and CSpD (`cspd.py`).

The step and its draftings are those of ids; they are here too, to be imported together.
"""

from specverify.decoders.autoregressive import Autoregressive
from specverify.decoders.continuous.coupling import LastRule, PathRule, Reflection, StepRule
from specverify.decoders.continuous.cspd import Released, Surrogate
from specverify.decoders.draft_model import DraftModel
from specverify.decoders.jacobi import Jacobi
from specverify.decoders.judging import Coupled, Coupling, Draft, TokenRule
from specverify.decoders.speculative import Drafting, Speculative

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
    "Reflection",
    "Released",
    "Speculative",
    "StepRule",
    "Surrogate",
    "TokenRule",
]
